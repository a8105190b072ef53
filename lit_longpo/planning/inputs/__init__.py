"""What a plan is made of: the configuration of `fit`, the architecture, how runs are spread, how long rows are."""

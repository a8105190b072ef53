"""Which degrees of sequence parallelism a model's heads allow."""


def feasible_degrees(num_heads: int, num_kv_heads: int, world_size: int | None = None) -> list[int]:
    """Degrees at which every rank gets the same number of query heads, and whole key/value heads.

    Outside attention the row is split by tokens, inside by heads. So the degree divides the query heads; it
    divides the key/value heads as well, or is a multiple of them, and then each of them is replicated.

    Args:
        num_heads: query heads of a layer.
        num_kv_heads: key/value heads of a layer.
        world_size: processes of the run, which the degree has to divide; `None` means any number.

    Returns:
        Degrees in rising order, 1 included.
    """
    return [
        degree
        for degree in range(1, num_heads + 1)
        if num_heads % degree == 0
        and (num_kv_heads % degree == 0 or degree % num_kv_heads == 0)
        and (world_size is None or world_size % degree == 0)
    ]

"""Words that carry no meaning, by LV-Eval.

They define its scores and cannot be derived: data from infinigence/LVEval at 63e7ae9 (MIT), sorted.
"""

_ENGLISH = (
    "about and are as at be because being but by does for from had has have he her his in is it of on or "
    "she that their they this to was were what when which who with"
)
_CHINESE = (
    "c \u00d7 ‰ 一定 一种 丁 万元 上 不 与 个 中 为 主要 也 了 于 亩 亿元 从 以 以及 会 但 位于 "
    "你 使 使用 元 其他 具有 到 包括 受 变得 可以 号 后 和 因素 在 地 基于 对 将 小 已经 带 年 "
    "并 度 形 或 或者 所 才 指 方面 无 日 时 是 月 有 条 来 根据 法 然后 片 用 用于 由 的 等 "
    "类 给 而 能 至 要 让 进行 通过 首先"
)

ENGLISH = frozenset(_ENGLISH.split())
CHINESE = frozenset(_CHINESE.split())

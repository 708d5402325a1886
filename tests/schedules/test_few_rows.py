"""Binary convolutions with few rows of output: which taps lie inside then follows from a row by a short formula."""

from tests.schedules.test_binary_conv import conv

TARGETS = ["avx512", "avx2", "generic"]
FILLINGS = (("normal", "normal"), ("high", "low"))
CASES = {}
for rows in (1, 2, 3, 4):
    for dilation in (1, 2, 3):
        for step in (1, 2):
            # a window of five rows, of which so many that `rows` of them fit lie inside or on a border
            kernel, padding = (5, 3), (dilation + 1, dilation, dilation + 1, dilation)
            height = (rows - 1) * step + 4 * dilation + 1 - 2 * (dilation + 1)
            CASES[f"{rows} rows, dilation {dilation}, step {step}"] = conv(
                8, 4, kernel, size=(max(height, 1), 4), batch=2, padding=padding, dilation=(dilation,) * 2,
                strides=(step, 1), groups=1 + rows % 2,
            )  # fmt: skip


def test_equals_the_reference(grid, case, target, target_of):
    grid.check(case, target_of(target))

import numpy as np

from service.format.versions import magnitude


def test_an_error_is_relative_to_1_and_the_value_but_that_of_a_map_to_the_sum_of_its_item() -> None:
    values = np.array([[[1.0, -3.0]], [[0.0, 0.5]]])
    np.testing.assert_array_equal(magnitude("samples", values), [[[2.0, 4.0]], [[1.0, 1.5]]])
    np.testing.assert_array_equal(magnitude("map", values).reshape(-1), [5.0, 1.5])
    np.testing.assert_array_equal(magnitude("map", values[1:]), magnitude("map", values)[1:])

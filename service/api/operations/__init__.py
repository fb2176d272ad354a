"""The operations, without a wire: typed options and arrays in, arrays and fields out."""

"""The one rule by which files of tables are read, in training and in serving: bytes to columns to numbers.

`opening` finds the format of bytes and undoes compression and encoding; `dialect` finds what separates the
values of a text; `sources` yields the rows in blocks; `cells` turns values into numbers and categories;
`matching` fits the columns of a table to those of a model, by name.
"""

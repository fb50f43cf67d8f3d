-- One row per value that takes the place of another of its customer.
create temp table rewritten_values (
    like gold.attribute_values,
    row_address text not null
) on commit drop

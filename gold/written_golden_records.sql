-- One row: how many golden records were written, and how many customers have left dim_customers, since the marks.
select
    (
        select count(*)
        from gold.dim_customers
        where run_id > %(golden_mark)s
    )
    + (
        select count(*)
        from identity.customers
        where run_id > %(identity_mark)s and status <> 'live'
    ) as customer_count

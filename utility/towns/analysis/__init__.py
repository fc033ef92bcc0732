"""SQL over the files of many towns: what it may read, how it runs, here or on a Dask cluster."""

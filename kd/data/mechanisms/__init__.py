"""Why something is missing: the mechanisms of the table `kd.data.MECHANISMS`, their laws and their kinds."""

"""Remote engines in an inference host: leases, health, routing and the requests that they run."""

"""What the administration shows while it happens: jobs with their progress, hosts with what they
hold. `snapshot` says how it is, `consumer` tells pages when it changes, `views` are the pages and
what their buttons do."""

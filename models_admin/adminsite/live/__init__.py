"""The admin's live pages: jobs with their progress, and hosts with their loaded models.

`snapshot` has the data, `consumer` sends changes to open pages, `views` has the pages and their
actions.
"""

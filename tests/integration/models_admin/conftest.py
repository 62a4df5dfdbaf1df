from tests.support.installation import migrated
from tests.support.jobs import hub, sent
from tests.support.pages import data_dir, unbuilt

__all__ = ["data_dir", "hub", "migrated", "sent", "unbuilt"]

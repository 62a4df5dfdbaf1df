from tests.support.pages import data_dir, unbuilt

__all__ = ["data_dir", "unbuilt"]

"""Files that need the extra `deploy` are collected only where it is installed, as by `make deploy-check`."""

from importlib.util import find_spec

NEEDS = {"test_schemas.py": ("kubernetes_validate", "cloudcoil"), "test_object_store.py": ("boto3", "moto")}

collect_ignore = [
    name for name, packages in NEEDS.items() if not all(find_spec(package) for package in packages)
]

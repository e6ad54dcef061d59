"""Kubernetes' schemas, as `kubernetes_validate` has them: it reads all of a version's for every object."""

from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from kubernetes_validate import utils
from referencing import Registry, Resource

OLDEST, NEWEST = "1.30", "1.37"


def validate(item: dict[str, Any], version: str) -> None:
    """Raise `jsonschema.ValidationError` where a version doesn't know an object's field, or its value."""
    # The schema of `rbac.authorization.k8s.io/v1` is in a file of `rbac-v1`.
    group, _, rest = item["apiVersion"].partition("/")
    api = f"{group.partition('.')[0]}-{rest}" if rest else group
    _validator(f"{item['kind'].lower()}-{api}", version).validate(item)


@cache
def _validator(name: str, version: str) -> Draft202012Validator:
    schema = utils.schema_contents(f"{_folder(version)}/{name}.json", version)
    return Draft202012Validator(schema, registry=Resource.from_contents(schema) @ _definitions(version))


@cache
def _definitions(version: str) -> Registry[Any]:
    definitions = utils.schema_contents(f"{_folder(version)}/_definitions.json", version)
    return (Resource.from_contents(definitions) @ Registry()).crawl()


@cache
def _folder(version: str) -> str:
    (whole,) = {one for one in utils.all_versions() if utils.major_minor(one) == version}
    return f"kubernetes-json-schema/v{whole}-local-strict"

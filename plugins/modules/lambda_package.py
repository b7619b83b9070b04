#!/usr/bin/python
from __future__ import annotations

DOCUMENTATION = r"""
module: lambda_package
short_description: Package Lambda source code into a reproducible zip
description:
  - Writes a zip whose bytes depend only on the names and contents of the files, so that an unchanged function is never uploaded again.
    Leaves out C(__pycache__), compiled files, empty folders, times, owners and modes (every file has mode 0644).
  - Fails with file and line if a Python file does not compile.
  - Supports diff mode and check mode, which writes nothing and returns the hash.
options:
  src:
    description: A folder, whose files are packaged under their path below it, or files, which are packaged under their own names.
    type: list
    elements: path
    required: true
  dest: {description: Where the zip goes. Missing folders are made., type: path, required: true}
"""

EXAMPLES = r"""
- name: Package the function
  lambda_package:
    src: lambda_src
    dest: .local/build/ProcessFinancialStream.zip
  register: package
"""

RETURN = r"""
path: {description: "Where the zip is, or would be in check mode.", returned: always, type: str}
sha256: {description: SHA-256 of the zip in hexadecimal digits., returned: always, type: str}
sha256_base64: {description: "SHA-256 of the zip in base64, which Lambda calls CodeSha256.", returned: always, type: str}
"""

from hashlib import sha256
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.pipeline.core.module import argument_spec
from ansible.module_utils.pipeline.release.package import PackageError, build, code_sha256, collect, write


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(DOCUMENTATION), supports_check_mode=True)
    destination = Path(module.params["dest"])
    try:
        package = build(collect(module.params["src"]))
        previous = destination.read_bytes() if destination.exists() else None
        if package != previous and not module.check_mode:
            write(package, destination)
    except PackageError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}. Check that src can be read and dest written.")
    changed, made = package != previous, code_sha256(package)
    before = {} if previous is None else {"code_sha256": code_sha256(previous)}
    diff = {"before": before, "after": {"code_sha256": made}} if changed else {"before": {}, "after": {}}
    module.exit_json(changed=changed, path=str(destination), sha256=sha256(package).hexdigest(), sha256_base64=made, diff=diff)


if __name__ == "__main__":
    main()

from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule

# The real one is no subclass, but has what an AnsibleModule has.
class AnsibleAWSModule(AnsibleModule):
    region: str
    def client(self, service: str) -> Any: ...
    def warn(self, warning: str) -> None: ...
    def fail_json_aws(self, exception: BaseException, msg: str) -> NoReturn: ...

#!/usr/bin/python
from ansible.module_utils.basic import AnsibleModule


def main():
    module = AnsibleModule(argument_spec=dict(word=dict(required=True), secret=dict(no_log=True)))
    module.exit_json(changed=True, said=module.params["word"].upper())


main()

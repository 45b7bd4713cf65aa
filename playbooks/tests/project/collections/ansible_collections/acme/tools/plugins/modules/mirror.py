#!/usr/bin/python
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.acme.tools.plugins.module_utils.words import backwards


def main():
    module = AnsibleModule(argument_spec=dict(word=dict(required=True)))
    module.exit_json(changed=False, said=backwards(module.params["word"]))


main()

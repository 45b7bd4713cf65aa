"""Filters of the cluster."""


def shout(text):
    return text.upper() + "!"


class FilterModule:
    def filters(self):
        return {"shout": shout}

"""What modules of the cluster share."""


def mark(name):
    return "marked by %s\n" % name

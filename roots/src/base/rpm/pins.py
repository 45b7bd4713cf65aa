"""Keeps a base at what its lock says while it is resolved anew.

The solver sees only what may be chosen. It is asked again with more of it, rung by rung, until it finds an answer:
what was asked to move, what that newly needs, its siblings from the same source package, what stands in its way
(ring by ring), everything. Runs before resolve.py, in the same namespace.
"""
import contextlib


def which(package):
    """What tells packages apart: to the library those of two repositories are equal."""
    return package.repoid, package.name, package.evr, package.arch, package.location


class Pins(object):
    """What a lock says of the packages that there are."""

    def __init__(self, base, request):
        self.base = base
        self.available = list(base.sack.query().available())
        self.locked = {(p["name"], p["arch"]): p for p in request["locked"]}
        self.names = {name for name, _ in self.locked}
        self.pinned = self._pinned()
        self.update = set(request["update"])
        self.added = request["added"]
        # Names whose locked version no repository has any more, or that the request no longer takes as they are.
        self.gone = {name for name, arch in self.locked if (name, arch) not in self.pinned} - self.update
        self.best = self._best()

    def _pinned(self):
        """The available package for each locked one: from its repository, with its content, if there is a choice."""
        found = {}
        for package in self.available:
            locked = self.locked.get((package.name, package.arch))
            if locked and (int(package.epoch), package.version, package.release) == (
                    locked["epoch"], locked["version"], locked["release"]):
                fits = (package.chksum[1].hex() == locked["sha256"], package.repoid == locked["repo"])
                known = found.get((package.name, package.arch))
                if known is None or fits > known[0]:
                    found[package.name, package.arch] = fits, package
        return {key: package for key, (_, package) in found.items()}

    def _best(self):
        """The newest version of each name that has to move, from the repositories that come first."""
        best = {}
        for package in self.available:
            if package.name in self.update:
                known = best.get(package.name)
                if known is None or self._rank(package) > self._rank(known):
                    best[package.name] = package
        return best

    def _rank(self, package):
        return -self.base.repos[package.repoid].priority, Version(self.base.sack, package.evr)

    def _may(self, freed, reached, forced=True):
        """What the solver may choose from. `reached`: names that aren't locked and may come; None: all.

        `forced`: what was asked to move comes in its newest version or not at all.
        """
        chosen = []
        for package in self.available:
            key = package.name, package.arch
            if package.name in freed:
                best = self.best.get(package.name) if forced else None
                may = best is None or self._rank(package) == self._rank(best)
            elif key in self.locked:
                may = key in self.pinned and which(package) == which(self.pinned[key])
            else:
                may = reached is None or package.name in reached
            if may:
                chosen.append(package)
        return chosen

    def _asked(self):
        """What was newly asked for: names that it may bring, and locked names that have to move for it."""
        bring, move = set(), set()
        pinned = {which(package) for package in self.pinned.values()}
        for spec in self.added:
            if spec.startswith("@"):
                bring |= self._members(spec[1:])
                continue
            found = dnf.subject.Subject(spec).get_best_query(self.base.sack, with_provides=True, with_filenames=True)
            bring |= {package.name for package in found}
            if not any(which(package) in pinned for package in found):
                move |= {package.name for package in found} & self.names
        return bring, move

    def _members(self, pattern):
        comps, names = self.base.comps, set()
        groups = list(comps.groups_by_pattern(pattern))
        for environment in comps.environments_by_pattern(pattern):
            groups += list(environment.mandatory_groups) + list(environment.optional_groups)
        for group in groups:
            names |= {package.name for package in group.packages_iter()}
        return names

    def _reach(self, names):
        """The names, and all that aren't locked and may be needed or recommended by them, directly or not."""
        seen, todo, asked = set(), set(names), set()
        available = self.base.sack.query().available().apply()
        while todo:
            seen |= todo
            wanted = {}
            for package in available.filter(name=sorted(todo)):
                best = self.best.get(package.name)
                if best is None or package.evr == best.evr:
                    wanted.update((str(need), need) for need in list(package.requires) + list(package.recommends))
            new = [need for text, need in wanted.items() if text not in asked]
            asked.update(wanted)
            found = {(p.name, p.arch) for need in new for p in available.filter(provides=need)}
            todo = {name for name, arch in found if (name, arch) not in self.locked} - seen
        return seen

    def _siblings(self, names):
        """All locked names that are built from the source packages of `names`."""
        key = lambda sourcerpm: (sourcerpm or "").rsplit("-", 2)[0]  # noqa: E731
        sources = {key(p.sourcerpm) for p in self.available if p.name in names} - {""}
        return names | {p.name for p in self.available if p.name in self.names and key(p.sourcerpm) in sources}

    def _in_the_way(self, freed, reached):
        """Locked names that what is freed needs otherwise, or that need otherwise what is freed."""
        sack, grown = self.base.sack, set()
        allowed = sack.query().filter(pkg=self._may(freed, reached)).apply()
        everything = sack.query().available().apply()
        before = sack.query().filter(pkg=[p for p in self.pinned.values() if p.name in freed]).apply()
        for package in allowed:
            if package.name in freed:
                for need in package.requires:
                    if not allowed.filter(provides=need):
                        grown |= {p.name for p in everything.filter(provides=need)} & self.names
                for conflict in list(package.conflicts) + list(package.obsoletes):
                    grown |= {p.name for p in allowed.filter(provides=conflict)} & self.names
            elif (package.name, package.arch) in self.locked:
                for need in package.requires:
                    if before.filter(provides=need) and not allowed.filter(provides=need):
                        grown.add(package.name)
        return grown - freed

    def rungs(self):
        """What may be chosen from, each time more of it than before."""
        bring, move = self._asked()
        asked = freed = self.update | self.gone | move
        grown = self._siblings(freed) - freed
        while True:
            reached = self._reach(freed | bring)
            yield self._may(freed, reached)
            grown = grown or self._in_the_way(freed, reached)
            if not grown:
                break
            freed, grown = freed | grown, set()
        yield self._may(freed, None)
        yield self._may(freed | self.names, None)
        # What was asked to move can't: that is told, and is no reason for others to move.
        yield self._may(asked, self._reach(asked | bring), forced=False)
        yield self.available

    def held(self, chosen):
        """Names that were to move and stay behind the newest: [name, the newest]."""
        versions = {package.name: package.evr for package in chosen}
        return sorted([name, best.evr] for name, best in self.best.items()
                      if name in versions and versions[name] != best.evr)

    @contextlib.contextmanager
    def only(self, chosen):
        """Hides all but `chosen` from the solver."""
        sack, chosen = self.base.sack, {which(package) for package in chosen}
        hidden = sack.query().filter(pkg=[p for p in self.available if which(p) not in chosen]).apply()
        sack.add_excludes(hidden)
        try:
            yield
        finally:
            sack.remove_excludes(hidden)


class Version(object):
    """A version that compares as rpm compares it."""

    def __init__(self, sack, evr):
        self.sack, self.evr = sack, evr

    def __eq__(self, other):
        return self.sack.evr_cmp(self.evr, other.evr) == 0

    def __lt__(self, other):
        return self.sack.evr_cmp(self.evr, other.evr) < 0

    def __gt__(self, other):
        return self.sack.evr_cmp(self.evr, other.evr) > 0



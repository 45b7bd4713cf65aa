"""What a fork does: becomes a fresh interpreter that reads the wrapper from its standard input."""

import os
import random
import signal
import sys
import tempfile
import time
import traceback
import types

from environment import enter_home
from payload import wrapper

PY3 = sys.version_info[0] >= 3

# Our own modules, once they are hidden from the module that runs: Python 2 clears a module's names when
# the last reference to it goes, and this code is still to come back to.
_kept = []


def become(body, source, index, store, out, err, path):
    """Runs a wrapper's source. Does not return."""
    code = 255
    try:
        _settle(body, out, err, path)
        store.fit(index)
        code = _run(source)
    except BaseException:
        # Not the module's doing: it shows up as a module that printed no result.
        try:
            os.write(2, traceback.format_exc().encode("utf-8", "replace"))
        except BaseException:
            pass
    finally:
        os._exit(code)


def _settle(body, out, err, path):
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(out, 1)
    os.dup2(err, 2)
    # All that is open here belongs to the fork server.
    os.closerange(3, 256)
    for name, value in body["env"].items():
        if PY3:
            os.environb[name.encode("latin-1")] = value.encode("latin-1")
        else:
            os.environ[name.encode("latin-1")] = value.encode("latin-1")
    enter_home()
    sys.executable = body["python"].encode("latin-1").decode("utf-8") if PY3 else str(body["python"])
    sys.argv = [""]
    sys.path[:] = [""] + path
    sys.dont_write_bytecode = False
    for name in ("__main__", "wire", "loop", "payload", "signature", "worker", "environment"):
        _kept.append(sys.modules.get(name))
        if name != "__main__":
            sys.modules.pop(name, None)
    _forget()


def _forget():
    """Drops what this interpreter knows from before the fork and a fresh one would find out."""
    random.seed()
    tempfile.tempdir = None
    time.tzset()
    if PY3:
        import importlib

        importlib.invalidate_caches()
    else:
        sys.path_importer_cache.clear()
    platform = sys.modules.get("platform")
    if platform is not None:
        platform._uname_cache = None
        getattr(platform, "_platform_cache", {}).clear()


def _run(source):
    main = types.ModuleType("__main__")
    main.__builtins__ = sys.modules["builtins" if PY3 else "__builtin__"]
    main.__file__ = "<stdin>"
    sys.modules["__main__"] = main
    code = 0
    source, names = wrapper(source)
    main.__dict__.update(names)
    try:
        exec(compile(source, "<stdin>", "exec", 0, True), main.__dict__)
    except SystemExit as end:
        code = _exit_code(end.code)
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        code = 1
        # Modules may have hooked this. The first frame is ours, and would not be there.
        kind, error, trace = sys.exc_info()
        if PY3:
            error.__traceback__ = trace.tb_next
        try:
            sys.excepthook(kind, error, trace.tb_next)
        except SystemExit as end:
            code = _exit_code(end.code)
        except BaseException:
            traceback.print_exc()
    return _finish(code)


def _exit_code(value):
    if value is None:
        return 0
    if isinstance(value, int):
        return value & 255
    sys.stderr.write("%s\n" % (value,))
    return 1


def _finish(code):
    """The parts of an interpreter's end that can be seen from outside."""
    threading = sys.modules.get("threading")
    if threading is not None and threading.active_count() > 1:
        try:
            threading._shutdown()
        except BaseException:
            pass
    import atexit

    try:
        atexit._run_exitfuncs()
    except BaseException:
        pass
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:
            code = code or 120 if stream is sys.stdout else code
    return code

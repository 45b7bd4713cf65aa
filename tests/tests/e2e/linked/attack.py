"""Tries every way to change files below /app that this process can't write to. Says of each what came of it."""

import ctypes
import errno
import fcntl
import json
import mmap
import os
import struct

libc = ctypes.CDLL(None, use_errno=True)
DATA, PROGRAM, EMPTY = "/app/data", "/app/program", "/app/lib/empty"
AT_FDCWD, MS_BIND, MS_REMOUNT, MNT_DETACH = -100, 4096, 32, 2
outcomes = {}


def attempt(name, work):
    try:
        work()
        outcomes[name] = "done"
    except OSError as error:
        outcomes[name] = errno.errorcode.get(error.errno, str(error))
    except ValueError as error:
        outcomes[name] = str(error)


def call(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def opened(path, flags, work=lambda fd: None):
    fd = os.open(path, flags)
    try:
        work(fd)
    finally:
        os.close(fd)


def overwrite(fd):
    os.pwrite(fd, b"X", 0)


def through_proc():
    """A file that is open for reading, opened again for writing."""
    opened(DATA, os.O_RDONLY, lambda fd: opened("/proc/self/fd/%d" % fd, os.O_RDWR, overwrite))


def through_path_fd():
    opened(DATA, os.O_PATH, lambda fd: opened("/proc/self/fd/%d" % fd, os.O_WRONLY, overwrite))


def mapped(fd):
    with mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE) as memory:
        memory[0] = 88


def private_map_by_mem():
    """Memory that is mapped from the file, written through /proc/self/mem: at most a private copy may change."""
    def work(fd):
        with mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ) as memory:
            for line in open("/proc/self/maps"):
                if DATA in line:
                    address = int(line.split("-")[0], 16)
                    opened("/proc/self/mem", os.O_RDWR, lambda mem: os.pwrite(mem, b"X", address))
                    assert memory is not None
                    return
            raise ValueError("not mapped")
    opened(DATA, os.O_RDONLY, work)


def elsewhere_then_write():
    os.link(DATA, "/etc/linked")
    opened("/etc/linked", os.O_WRONLY, overwrite)


def link_by_fd():
    def work(fd):
        call(libc.linkat(AT_FDCWD, b"/proc/self/fd/%d" % fd, AT_FDCWD, b"/etc/linked2", 0x400))
        opened("/etc/linked2", os.O_WRONLY, overwrite)
    opened(DATA, os.O_PATH, work)


def rename_out():
    os.rename(DATA, "/etc/renamed")
    opened("/etc/renamed", os.O_WRONLY, overwrite)


def recreate():
    os.unlink(DATA)
    with open(DATA, "w") as file:
        file.write("another")


def rename_over():
    with open("/etc/other", "w") as file:
        file.write("another")
    os.rename("/etc/other", DATA)


def remount():
    call(libc.mount(None, b"/app", None, MS_REMOUNT | MS_BIND, None))
    opened(DATA, os.O_WRONLY, overwrite)


def unmount():
    call(libc.umount2(b"/app", MNT_DETACH))
    opened(DATA, os.O_WRONLY, overwrite)


def in_child(work):
    """In a process of its own, since namespaces are entered for good."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except OSError as error:
            os._exit(error.errno)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        raise OSError(status, os.strerror(status))


def user_namespace(then):
    """A user namespace makes anybody an administrator of mounts of its own."""
    def work():
        call(libc.unshare(0x10000000 | 0x00020000))
        then()
    return lambda: in_child(work)


class Handle(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_uint), ("type", ctypes.c_int), ("handle", ctypes.c_ubyte * 128)]


def by_handle():
    handle, mount = Handle(bytes=128), ctypes.c_int()
    call(libc.name_to_handle_at(AT_FDCWD, DATA.encode(), ctypes.byref(handle), ctypes.byref(mount), 0))

    def work(writable):
        fd = call(libc.open_by_handle_at(writable, ctypes.byref(handle), os.O_WRONLY))
        overwrite(fd)

    # On a mount of the same file system that is writable.
    opened("/etc", os.O_RDONLY, work)


def flags(fd):
    """What `chattr +d` does."""
    fcntl.ioctl(fd, 0x40086602, struct.pack("l", 0x40))


def host_root():
    opened("/proc/1/root/var/lib/rootbuild/checkouts/one/1/app/data", os.O_WRONLY, overwrite)


def trace():
    call(libc.ptrace(16, 1, None, None))


def disk():
    stat = os.stat(DATA)
    os.mknod("/etc/disk", 0o60600, stat.st_dev)
    # That it can be opened is enough.
    opened("/etc/disk", os.O_RDONLY)


def above():
    """The directory that holds it, moved from under the mount."""
    os.rename("/app", "/moved")
    opened("/moved/data", os.O_WRONLY, overwrite)


def escape():
    """Out of the root, by the old way of chroot."""
    here = os.open("/", os.O_RDONLY)
    os.makedirs("/etc/jail", exist_ok=True)
    os.chroot("/etc/jail")
    os.fchdir(here)
    for _ in range(50):
        os.chdir("..")
    opened("var/lib/rootbuild/checkouts/one/1/app/data", os.O_WRONLY, overwrite)


attempt("write", lambda: opened(DATA, os.O_WRONLY, overwrite))
attempt("read and write", lambda: opened(DATA, os.O_RDWR, overwrite))
attempt("truncate on open", lambda: opened(PROGRAM, os.O_WRONLY | os.O_TRUNC))
attempt("truncate by path", lambda: os.truncate(DATA, 1))
attempt("append", lambda: opened(DATA, os.O_WRONLY | os.O_APPEND, lambda fd: os.write(fd, b"X")))
attempt("fill the empty one", lambda: opened(EMPTY, os.O_WRONLY, overwrite))
attempt("allocate", lambda: opened(DATA, os.O_WRONLY, lambda fd: os.posix_fallocate(fd, 0, 9999)))
attempt("chmod", lambda: os.chmod(DATA, 0o777))
attempt("chmod by descriptor", lambda: opened(DATA, os.O_RDONLY, lambda fd: os.fchmod(fd, 0o777)))
attempt("chown", lambda: os.chown(DATA, 1, 1))
attempt("chown by descriptor", lambda: opened(DATA, os.O_RDONLY, lambda fd: os.fchown(fd, 1, 1)))
attempt("times", lambda: os.utime(DATA, (1, 1)))
attempt("times by descriptor", lambda: opened(DATA, os.O_RDONLY, lambda fd: os.utime(fd, (1, 1))))
attempt("attribute", lambda: os.setxattr(DATA, "user.x", b"y"))
attempt("attribute by descriptor", lambda: opened(DATA, os.O_RDONLY, lambda fd: os.setxattr(fd, "user.x", b"y")))
attempt("capability", lambda: os.setxattr(PROGRAM, "security.capability", struct.pack("<5I", 0x02000001, 1, 0, 0, 0)))
attempt("flags", lambda: opened(DATA, os.O_RDONLY, flags))
attempt("map of a read-only file", lambda: opened(DATA, os.O_RDONLY, mapped))
attempt("map of a writable file", lambda: opened(DATA, os.O_RDWR, mapped))
attempt("own copy by /proc/self/mem", private_map_by_mem)
attempt("/proc/self/fd", through_proc)
attempt("/proc/self/fd of a path", through_path_fd)
attempt("link elsewhere", elsewhere_then_write)
attempt("link by descriptor", link_by_fd)
attempt("rename elsewhere", rename_out)
attempt("unlink and make anew", recreate)
attempt("rename over it", rename_over)
attempt("make a file beside it", lambda: opened("/app/new", os.O_WRONLY | os.O_CREAT))
attempt("move the directory", above)
attempt("remount writable", remount)
attempt("unmount", unmount)
attempt("remount in a user namespace", user_namespace(remount))
attempt("unmount in a user namespace", user_namespace(unmount))
attempt("open by handle", by_handle)
attempt("open by handle in a user namespace", user_namespace(by_handle))
attempt("the host's root", host_root)
attempt("trace process 1", trace)
attempt("the disk", disk)
attempt("out of the root", lambda: in_child(escape))
attempt("own write in /etc", lambda: open("/etc/conf", "w").write("mine"))
with open("/etc/outcome.json", "w") as file:
    json.dump(outcomes, file)

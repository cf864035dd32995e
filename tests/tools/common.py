"""What the end-to-end scripts share: running a program, and counting what is wrong."""

import pathlib
import subprocess
import sys
import tempfile

failures = 0


def check(condition, what):
    global failures
    if not condition:
        failures += 1
        print(f"FAILED {what}")


def run(program, *arguments, cwd="/", timeout=280):
    return subprocess.run([program, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, errors="replace", timeout=timeout)


def refuses(program, *arguments, says):
    """Exit status 2, one line on stderr that says it, nothing on stdout."""
    done = run(program, *arguments)
    what = " ".join(map(str, arguments))
    check(done.returncode == 2, f"{what}: exit status {done.returncode}, should be 2")
    check(done.stdout == "", f"{what}: prints on stdout: {done.stdout[:200]}")
    lines = done.stderr.splitlines()
    check(len(lines) == 1 and says in lines[0], f"{what}: should say '{says}' in one line; says {done.stderr[:400]!r}")


def works(program, *arguments, **options):
    done = run(program, *arguments, **options)
    check(done.returncode == 0, f"{' '.join(map(str, arguments))}: exit status {done.returncode}: {done.stderr[:400]}")
    return done


def leaves(folder, *names):
    """The folder holds these files and no other."""
    found = sorted(p.name for p in pathlib.Path(folder).iterdir())
    check(found == sorted(names), f"{folder} should hold {sorted(names)}; holds {found}")


def temporary():
    return tempfile.TemporaryDirectory(prefix="multistate-")


def finish():
    print("failed" if failures else "all well", f"({failures} failures)")
    sys.exit(1 if failures else 0)


def arguments():
    """PROGRAM [SHARED]: absolute path of the program; the folder of shared data where there is one."""
    program = str(pathlib.Path(sys.argv[1]).resolve())
    shared = pathlib.Path(sys.argv[2]).resolve() if len(sys.argv) > 2 else None
    return program, shared if shared is not None and shared.is_dir() else None

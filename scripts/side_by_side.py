#!/usr/bin/env python3
"""Runs commands side by side, shows what each printed when it has ended, and counts what the test runners among them say.

    side_by_side.py [--at-once N] [--counts FILE] <COMMANDS

A line of COMMANDS is a name, the folder to run in and the words of a command, with tabs between. They begin in this order, N
at a time (default: one for each core). A line `PASSED FAILED` is added to FILE for all of them together.

Exits 0 only when each command exited with 0, said that some test passed and none failed.
"""
import argparse
import concurrent.futures
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

# What cargo's and the suite's test programs end with, and what the fault tools and proofs do.
RESULT = re.compile(rb'^(?:test result: \w+\. )?(\d+) passed[,;] (\d+) failed(?:;.*)?$', re.MULTILINE)

# How many lines of a program that failed are shown once more at the end, where whoever sees only the end of a log looks.
LAST_LINES = 60

running = set()
ending = threading.Event()
lock = threading.Lock()


def run(name, folder, words):
    """Answers how many passed, how many failed, what is wrong, or None, and the last lines that it said."""
    with tempfile.TemporaryFile() as output:
        with lock:
            if ending.is_set():
                return 0, 0, None, b''
            began = time.monotonic()
            try:
                # A session of its own, so that all of it can be ended.
                process = subprocess.Popen(words, cwd=folder, stdin=subprocess.DEVNULL, stdout=output,
                                           stderr=subprocess.STDOUT, start_new_session=True)
            except OSError as error:
                print(f'\n-- {name}\n{error}', flush=True)
                return 0, 1, str(error), b''
            running.add(process)
        code = process.wait()
        seconds = time.monotonic() - began
        output.seek(0)
        said = output.read()
    # A terminal's colours would hide the words.
    results = RESULT.findall(re.sub(rb'\x1b\[[0-9;]*m', b'', said))
    passed, failed = (sum(int(result[place]) for result in results) for place in (0, 1))
    with lock:
        running.discard(process)
        if not ending.is_set():
            sys.stdout.buffer.write(f'\n-- {name}\n'.encode() + said)
            if said and not said.endswith(b'\n'):
                sys.stdout.buffer.write(b'\n')
            sys.stdout.buffer.write(f'--- {name}: {seconds:.1f} s\n'.encode())
            sys.stdout.buffer.flush()
    problem = None
    if code:
        # One that came to no end says no number.
        failed = max(failed, 1)
        problem = f'exit code {code}' if code > 0 else f'ended by signal {-code}'
    elif failed:
        problem = f'{failed} failed, and its exit code is 0 all the same'
    elif not passed:
        failed = 1
        problem = 'ran no test'
    return passed, failed, problem, b'\n'.join(said.rstrip().splitlines()[-LAST_LINES:])


def end_all():
    with lock:
        ending.set()
        for process in running:
            try:
                os.killpg(process.pid, signal.SIGTERM)
            except ProcessLookupError:
                pass


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--at-once', type=int, default=os.cpu_count())
    parser.add_argument('--counts')
    arguments = parser.parse_args()
    commands = [line.rstrip('\n').split('\t') for line in sys.stdin]
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    with concurrent.futures.ThreadPoolExecutor(arguments.at_once) as pool:
        try:
            began = [(name, pool.submit(run, name, folder, words)) for name, folder, *words in commands]
            outcomes = [(name, *future.result()) for name, future in began]
        except BaseException:
            end_all()
            raise
    passed, failed = (sum(outcome[place] for outcome in outcomes) for place in (1, 2))
    if arguments.counts:
        with open(arguments.counts, 'a', encoding='utf-8') as file:
            print(passed, failed, file=file)
    wrong = [(name, problem) for name, _, _, problem, _ in outcomes if problem]
    for name, _, _, problem, last in outcomes:
        if problem and len(outcomes) > 1:
            print(f'\n-- {name}: {problem}; the end of what it said', flush=True)
            sys.stdout.buffer.write(last + b'\n')
            sys.stdout.buffer.flush()
    print(f'\n{passed} passed, {failed} failed in {len(outcomes)} programs')
    for name, problem in wrong:
        print(f'failed: {name}: {problem}')
    return 1 if wrong or not outcomes else 0


if __name__ == '__main__':
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)

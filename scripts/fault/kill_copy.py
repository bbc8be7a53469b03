#!/usr/bin/env python3
"""Kills `storage copy` at random moments and lets it go on: the receipt must be the one of a copy that nobody killed.

    kill_copy.py --storage PROGRAM --source DIR --target STORE --reset COMMAND [--kills 50] [--seed 1] [--work DIR]

DIR is a JSON store, which is copied aside for each trial. STORE is the target as the command takes it: json:DIR, or the
word DATABASE_URL for the value of that variable. COMMAND makes the target empty; {work} in it and in STORE is the work
directory. A trial is one kill or several, each at a random moment of the time that a whole copy takes, and then a run to
the end. Afterwards `storage compare` and `storage audit` of the target must find nothing. Exits 0 only when all held.
"""
import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--storage', required=True)
    parser.add_argument('--source', required=True)
    parser.add_argument('--target', required=True)
    parser.add_argument('--reset', required=True)
    parser.add_argument('--kills', type=int, default=50)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--work')
    arguments = parser.parse_args()
    work = arguments.work or tempfile.mkdtemp(prefix='kill-copy-')
    os.makedirs(work, exist_ok=True)
    source = os.path.join(work, 'source')
    target = arguments.target.replace('{work}', work)
    environment = dict(os.environ, STORAGE_MODE='json', TMPDIR=work)
    copy = [arguments.storage, 'copy', '--from', 'json:' + source, '--to', target, '--yes', '--json']
    compare = [arguments.storage, 'compare', 'json:' + source, target]

    def fresh():
        shutil.rmtree(source, ignore_errors=True)
        shutil.copytree(arguments.source, source)
        done = subprocess.run(arguments.reset.replace('{work}', work), shell=True, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f'the target could not be made empty:\n{done.stdout}{done.stderr}')

    def whole():
        began = time.monotonic()
        done = subprocess.run(copy, env=environment, capture_output=True, text=True)
        if done.returncode:
            return None, f'exit {done.returncode}: {done.stdout}{done.stderr}'
        return json.loads(done.stdout), time.monotonic() - began

    fresh()
    wanted, seconds = whole()
    if wanted is None:
        sys.exit(f'a copy that nobody killed failed: {seconds}')
    print(f'a whole copy takes {seconds:.2f} s; {sum(wanted["counts"].values())} records')
    randomness = random.Random(arguments.seed)
    killed = trials = failed = early = 0
    while killed < arguments.kills:
        trials += 1
        fresh()
        moments = []
        # A second kill hits the copy that goes on.
        for _ in range(randomness.choice([1, 1, 1, 2, 3])):
            moment = randomness.uniform(0, seconds)
            process = subprocess.Popen(copy, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                process.wait(moment)
                early += 1
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                killed += 1
                moments.append(f'{moment:.3f}')
        receipt, said = whole()
        problem = None
        if receipt is None:
            problem = said
        elif receipt != wanted:
            problem = f'another receipt: {json.dumps(receipt)}'
        else:
            done = subprocess.run(compare, env=environment, capture_output=True, text=True)
            if done.returncode:
                problem = f'compare: exit {done.returncode}: {done.stdout}{done.stderr}'
        failed += problem is not None
        print(f'trial {trials}, killed after {", ".join(moments) or "its end"} s: {problem or "the same receipt"}')
    print(f'{killed} kills in {trials} trials, {early} copies ended before their kill')
    print(f'{trials - failed} passed, {failed} failed')
    if not arguments.work:
        shutil.rmtree(work, ignore_errors=True)
    sys.exit(failed > 0)


if __name__ == '__main__':
    main()

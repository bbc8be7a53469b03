#!/usr/bin/env python3
"""Two builds of `storage-bench` in turns: is the one after as fast as the one before, workload by workload?

  scripts/ab.py BEFORE AFTER [--rounds 20] [--dir /var/tmp] [--workload credit-64,jobs] [--floor 0.97] [--json FILE]

Each round gives both programs a short slice of each workload of `storage-bench json`, one right after the other; which is first
changes from round to round, because the machine's other work does too. What counts is the ratio of the two rates of a round,
after to before: printed are the middle of the rounds' ratios and its 95 % interval (Hodges and Lehmann's). Fails when the whole
interval of a workload lies below --floor; says `wide` where more rounds or a quieter machine are needed to tell. A program against
itself must pass, and shows how much the machine leaves to be told.

Rates are calls a second; `open` is openings a second. Processor time a call (cpu) is printed where the program tells it: it is
steadier than a rate on a shared machine, and judged by nobody.
"""
import argparse, json, math, os, shutil, statistics, subprocess, sys, tempfile, time


class Failed(Exception):
    pass


def child(program, store, work, tasks, a, processes=1):
    """A slice of one work by a process of its own, or by several on one store that begin together."""
    millis = str(int(a.seconds * 1000))
    words = [program, '--json', 'json-child', store, '--users', str(a.users), '--tasks', str(tasks), '--work', work, '--millis', millis]
    running = [subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    try:
        for one in running:
            if not one.stdout.readline():
                raise Failed(f'{program} json-child could not open {store}')
        for one in running:
            one.stdin.write('go\n')
            one.stdin.flush()
        rate, cpu = 0.0, []
        for one in running:
            said, _ = one.communicate()
            if one.returncode:
                raise Failed(f'{program} json-child {store}: exit code {one.returncode}')
            figures = json.loads(said.split('\n', 1)[1])['figures']
            rate += figures['calls']
            cpu.append(figures['cpu'])
        return rate, statistics.mean(cpu)
    finally:
        for one in running:
            one.kill()
            one.wait()


def fill(program, store, a):
    """A new store each round: it grows with every slice, and the bot's payments may be put in once."""
    shutil.rmtree(store, ignore_errors=True)
    said = subprocess.run([program, 'json-child', store, '--users', str(a.users), '--fill'], input='go\n', capture_output=True, text=True)
    if said.returncode:
        raise Failed(f'{program}: {said.stderr}')


def bench(program, *words):
    said = subprocess.run([program, '--json', *map(str, words)], capture_output=True, text=True)
    if said.returncode:
        raise Failed(f'{program} {" ".join(map(str, words))}: {said.stderr}')
    return json.loads(said.stdout)


def table(report, name):
    found = next(table for table in report['tables'] if table['name'] == name)['contestants']['storage_json']
    return found['a_second'], found.get('cpu_us') or 0.0


def workloads(a):
    """Name and how it is measured: a function of program and that program's own directory; answers rate and cpu."""
    def write(work, tasks):
        return lambda program, dir: child(program, f'{dir}/store', work, tasks, a)

    def of_json(workload, name, *more):
        return lambda program, dir: table(bench(program, 'json', '--workload', workload, '--rounds', 1, '--seconds', a.seconds, '--dir', dir, *more), name)

    def opening(program, dir):
        return 1 / bench(program, 'open', f'{dir}/store', '--rounds', 3)['figures']['opening'], 0.0
    few = min(a.users, 20_000)
    return {
        'open': opening,
        **{f'{work}-{tasks}': write(work, tasks) for work in ('credit', 'debit') for tasks in (1, 8, 64)},
        'bot-64': write('mix', 64),
        'balance-1': write('balance', 1),
        'balance-1 exclusive': of_json('balance', 'get_balance, exclusive', '--users', few),
        'jobs': of_json('jobs', 'newest jobs', '--jobs', few),
        'processes 2x32': lambda program, dir: child(program, f'{dir}/store', 'credit', 32, a, processes=2),
        'checkpoint': of_json('checkpoint', 'checkpoint', '--users', few, '--checkpoint-bytes', 4_000_000),
    }


def interval(ratios):
    """The middle of the ratios, and its 95 % interval: Hodges and Lehmann's, from the signed ranks of Wilcoxon. On a shared machine
    a round goes astray now and then, which would widen an interval of means for nothing."""
    logs = [math.log(ratio) for ratio in ratios]
    count = len(logs)
    ways = [1]  # in how many ways the positive ranks come to a sum
    for rank in range(1, count + 1):
        ways = [(ways[n] if n < len(ways) else 0) + (ways[n - rank] if n >= rank else 0) for n in range(len(ways) + rank)]
    cut, below = 0, 0
    while (below + ways[cut]) / 2**count <= 0.025:
        below += ways[cut]
        cut += 1
    means = sorted((logs[a] + logs[b]) / 2 for a in range(count) for b in range(a, count))
    return math.exp(statistics.median(means)), math.exp(means[cut - 1]), math.exp(means[-cut])


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('before')
    ap.add_argument('after')
    ap.add_argument('--rounds', type=int, default=20, help='6 at least')
    ap.add_argument('--seconds', type=float, default=1.0, help='a slice')
    ap.add_argument('--users', type=int, default=100_000)
    ap.add_argument('--dir', default='/var/tmp', help='where the stores are made: the disk that is measured')
    ap.add_argument('--workload', default='', help='only those with one of these words in their name, comma list')
    ap.add_argument('--floor', type=float, default=0.97)
    ap.add_argument('--json', default='', help='write all rates here')
    a = ap.parse_args()
    words = [word for word in a.workload.split(',') if word]
    chosen = {name: run for name, run in workloads(a).items() if not words or any(word in name for word in words)}
    if a.rounds < 6 or not chosen:
        ap.error('6 rounds at least' if chosen else f'there are: {", ".join(workloads(a))}')
    programs = [os.path.abspath(a.before), os.path.abspath(a.after)]
    rates = {name: [[], []] for name in chosen}
    cpus = {name: [[], []] for name in chosen}
    began, done = time.time(), 0
    with tempfile.TemporaryDirectory(prefix='storage-ab.', dir=a.dir) as scratch:
        dirs = [os.path.join(scratch, which) for which in ('before', 'after')]
        for dir in dirs:
            os.mkdir(dir)
        try:
            for round in range(a.rounds):
                for which in 0, 1:
                    fill(programs[which], f'{dirs[which]}/store', a)
                for name, run in chosen.items():
                    for which in (0, 1) if round % 2 == 0 else (1, 0):
                        rate, cpu = run(programs[which], dirs[which])
                        rates[name][which].append(rate)
                        cpus[name][which].append(cpu)
                print(f'round {round + 1} of {a.rounds}, {time.time() - began:.0f} s', file=sys.stderr, flush=True)
                done = round + 1
        except (Failed, KeyboardInterrupt) as why:
            print(f'ab: {str(why) or "stopped"}: what follows is of {done} rounds', file=sys.stderr)
            if done < 6:
                sys.exit(1)
            rates, cpus = ({name: [of[:done] for of in both] for name, both in all.items()} for all in (rates, cpus))
    print(f'{"workload":20}{"before /s":>12}{"after /s":>12}{"ratio":>8}  {"95 % interval":16}{"cpu ratio":>10}')
    bad, wide, out = [], [], {}
    for name in chosen:
        before, after = rates[name]
        middle, low, high = interval([b / a for a, b in zip(before, after)])
        cpu = [b / a for a, b in zip(*cpus[name]) if a and b]
        out[name] = dict(before=before, after=after, ratio=middle, low=low, high=high, cpu_ratio=statistics.median(cpu) if cpu else None)
        mark = 'slower' if high < a.floor else 'wide' if low < a.floor and high / low > 1.1 else ''
        bad += [name] if mark == 'slower' else []
        wide += [name] if mark == 'wide' else []
        print(f'{name:20}{statistics.median(before):12.0f}{statistics.median(after):12.0f}{middle:8.3f}  {f"{low:.3f} to {high:.3f}":16}'
              f'{f"{statistics.median(cpu):.3f}" if cpu else "-":>10}  {mark}')
    if a.json:
        with open(a.json, 'w') as f:
            json.dump(dict(floor=a.floor, rounds=done, seconds=a.seconds, users=a.users, workloads=out), f, indent=1)
    print(f'{len(chosen) - len(bad)} of {len(chosen)} workloads as fast as before, by {done} rounds and a floor of {a.floor}; '
          f'slower: {", ".join(bad) or "none"}; too wide to tell: {", ".join(wide) or "none"}')
    sys.exit(bool(bad) or done < a.rounds)


if __name__ == '__main__':
    main()

#!/usr/bin/env python3
"""One of two processes is held (stopped, not killed) before EVERY file-system call, the other works, then it is let go.

The workload is stopped, with all its threads, before its k-th call on the directory. The other process, --beside, has the
store open by then and works (beside), or is started at that moment (joins). It must work, or answer Busy or Locked within
--limit seconds and naming the process that is held, whenever it is asked. When it has ended, or was refused, the workload is
let go. Then both come to their end, with every operation acknowledged and there, once.

  hold_enum.py --workload 'probe run {dir} 7 60 --insist 50 --deadline 400' \\
               --beside 'probe run {dir} 8 120 --insist 50 --deadline 400 --tally' --limit 0.4 --verify 'probe verify {dir} {ack}'
Exit 0 = every trial passed.
"""
import argparse, collections, json, os, sys, time
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from faultlib import *

AHEAD = 60  # calls before the k-th at which the other one starts, in the mode `beside`


def run(g, a, k, mode):
    tr = Tracer(g.dir, MUTATING + LOCKING)
    other = Probe(g.base + '/ack.beside', g.base + '/err.beside')
    seen = dict(k=0, at=None, pid=None, other=None, come_in=None, end=None, since=0.0, count=0, refused=0)

    def start(tr):
        seen['other'] = tr.begin('exec ' + fill(a.beside, dir=g.dir), other.ack, other.err, traced=False)
        seen['since'] = time.time()

    def entry(ev, tr):
        if ev.kind == 'ack':
            return None
        seen['k'] += 1
        if mode == 'beside' and seen['k'] == max(1, k - AHEAD):
            start(tr)
            if seen['k'] != k:  # stands until the other one has come in, if it can
                seen['come_in'] = time.time() + 0.1
                return ('hold',)
        if seen['k'] != k:
            return None
        seen['at'], seen['pid'] = str(ev), tr.tgid(ev.pid)
        if mode == 'joins':
            start(tr)
        seen['count'], seen['refused'], seen['since'] = other.acks(), len(other.refusals()), time.time()
        seen['was_over'] = tr.codes[seen['other']] is not None
        return ('holdtg',)

    def idle(tr):
        if seen['at'] is None:
            if other.acks() or time.time() > seen['come_in'] or tr.codes[seen['other']] is not None:
                tr.release()
            return
        over, count = tr.codes[seen['other']] is not None, other.acks()
        if count != seen['count']:
            seen['count'], seen['since'] = count, time.time()
        if over:
            seen['end'] = 'was over before' if seen['was_over'] else 'works'
        elif len(other.refusals()) > seen['refused']:
            seen['end'] = other.refusals()[seen['refused']][2]
        elif time.time() - seen['since'] > a.limit + a.slack:
            seen['end'] = 'waits to close' if 'storage-probe: closing' in other.said() else 'waits'
        if seen['end']:
            tr.release()
    return tr.run('exec ' + fill(a.workload, dir=g.dir), g.ack, g.err, entry, timeout=a.timeout, on_idle=idle), seen, tr, other


def judge(g, a, r, seen, tr, other):
    """What is wrong: (what, of which, said)."""
    if r['hung']:
        return [('hang', 'both', r['stuck'])]
    wrong, held = [], Probe(g.ack, g.err)
    for who, probe, code in ('the one that was held', held, r['code']), ('the other', other, tr.codes.get(seen['other'])):
        if code != 0:
            wrong.append((probe.died(code) or 'refuses for good', who, probe.said()[-900:]))
    longest = 0
    for what, ms, kind, text in other.refusals():
        longest = max(longest, ms)
        if kind not in ('Busy', 'Locked'):
            wrong.append(('another answer', what, f'{kind}: {text}'))
        named = re.search(r'process (\d+)', text)
        if named and int(named[1]) != seen['pid'] or a.strict and not named:
            wrong.append(('names nobody' if not named else 'names somebody else', what, f'{text}; process {seen["pid"]} is held'))
    tally = re.findall(r'^\{.*\}$', other.said(), re.M)
    if tally:
        figures = json.loads(tally[-1])
        longest = max(longest, figures['longest_ms'], figures['opening_ms'])
    seen['longest'] = longest
    if seen['end'] == 'waits' or longest > (a.limit + a.slack) * 1000:
        wrong.append(('waits beyond its limit', 'the other', f'{longest} ms; {other.said()[-600:]}'))
    with open(g.ack, 'ab') as all_acks:
        with open(other.ack, 'rb') as acks:
            all_acks.write(acks.read())
    rc, out = g.verify(a.verify, a.timeout, of=g.dir)
    if rc != 0:
        wrong.append((misfit(rc, out), 'the directory', out))
    return sorted(wrong, key=lambda one: one[0] not in COUNTED)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common_args(ap)
    ap.add_argument('--beside', default='', help='shell command of the other process')
    ap.add_argument('--modes', default='beside,joins', help='comma list')
    ap.add_argument('--limit', type=float, default=0.4, help='seconds that the other one may wait, as its own arguments have it')
    ap.add_argument('--slack', type=float, default=2.0, help='seconds more before a wait counts as too long: a machine is busy at times')
    ap.add_argument('--strict', action='store_true', help='an answer that names no process is a failure; without it only one that names another')
    a = arguments(ap)
    work, t0, longest = workdir(a), time.time(), 0
    stats, fails, warn, total, k = collections.Counter(), [], set(), None, a.first
    while not (a.last and k > a.last) and total is None and len(fails) < a.max_fail and not (a.budget and time.time() - t0 > a.budget):
        for mode in a.modes.split(','):
            g = Trial(work, f'k{k}{mode}')
            r, seen, tr, other = run(g, a, k, mode)
            warn |= tr.warn
            if seen['at'] is None and not r['hung']:
                total = seen['k']
                if r['code'] != 0:
                    fails.append(dict(point=f'{k}', what='fails without being held', out=Probe(g.ack, g.err).said()[-900:]))
                g.drop()
                break
            wrong = judge(g, a, r, seen, tr, other)
            longest = max(longest, seen.get('longest', 0))
            stats[f'{mode}: {seen["end"]}'] += 1
            where = f'{k}:{mode}:{seen["at"]}'
            if wrong:
                what, of, said = wrong[0]
                fails.append(dict(point=where, how=seen['end'], what=what, of=of, out=said[-900:],
                                  also=[f'{what}: {of}' for what, of, _ in wrong[1:]], folder=g.base if a.keep else ''))
            if a.v:
                print(where, seen['end'], *[f'FAIL {what}: {of}' for what, of, _ in wrong] or ['ok'], flush=True)
            if not (a.keep and wrong):
                g.drop()
        k += a.stride
    by_what = collections.Counter(f['what'] for f in fails)
    return report('hold_enum', stats, fails, warn, t0, a, count=True, extra=dict(
        calls_in_a_full_run=total, points_tried_to=k - a.stride, longest_wait_ms=longest, failures_by_kind=dict(sorted(by_what.items()))))


if __name__ == '__main__':
    sys.exit(main())

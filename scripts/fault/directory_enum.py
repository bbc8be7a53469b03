#!/usr/bin/env python3
"""The data directory changes under a running store, at EVERY file-system call of a workload, then check.

The workload stands before its k-th call on the directory while the tool makes one change (--changes of them one after the
other, each in a run of its own); then it goes on. The store may go on too, or refuse, in words that name the directory or
a file of it. What must hold afterwards:

  renamed           away, or away and back a few calls later: everything acknowledged is in that directory, wherever it is
  replaced          by an empty one, a copy, an older copy, another store (a symbolic link above it is switched): the same; and
                    what stands at the path is as it was put there, opens, and has what it had. Where the old one was removed
                    (rm -rf, then an older copy), nothing is acknowledged any more but the call that was on its way
  lock files, head  removed, or replaced by a copy, and a second process is started: what both were promised is there, once
  hard links        cp -al of the directory, which a second process opens: what each was promised is in its directory
  needed files      ledger, manifest, journal, any data file removed, ledger or journal cut: the directory has everything, or does
                    not open and says why, naming the file; a line of --doctor that begins with `bad` names it too

In every other run the workload is killed some acknowledgements after the change instead of closing the store.

  directory_enum.py --workload 'probe run {dir} 1 100 --insist 3' --second 'probe run {dir} 2 30 --insist 3' \\
                    --another 'probe run {dir} 3 20' --verify 'probe verify {dir} {ack}' --doctor 'storage doctor --data-dir {dir}'
--verify also takes --named (only what {ack} names), exits 3 when the store does not open. Exit 0 = every trial passed.
"""
import argparse, collections, os, shutil, subprocess, sys, time
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from faultlib import *

LOCKS = ['presence.lock', 'writer.lock', 'checkpoint.lock']
HEAD, LEDGER, MANIFEST = 'journal.head', 'ledger.jsonl', 'manifest.json'
PATIENCE = 0.4  # seconds that the workload stands for the second process to come in
KINDS = {}


def kind(name, second=None):
    """second: where the second process opens, if there is one. A change answers False where there is nothing to change yet."""
    def keep(change):
        KINDS[name] = (change, second)
        return change
    return keep


def copy(source, target, how='-a'):
    subprocess.run(['cp', how, source, target], check=True)


def traces(path):
    """What changes when anybody writes there."""
    if not os.path.lexists(path):
        return None
    found = {}
    for top, dirs, files in os.walk(path):
        for name in dirs + files:
            s = os.lstat(os.path.join(top, name))
            found[os.path.relpath(os.path.join(top, name), path)] = (s.st_ino, s.st_mode) + ((s.st_size, s.st_mtime_ns) if name in files else ())
    return found


class Ground(Trial):
    """A tree in which {dir} is at/data, and `at` a symbolic link to `first`."""

    def __init__(self, work, tag, another):
        super().__init__(work, tag)
        self.tree, self.another = self.dir, another
        self.home = os.path.join(self.tree, 'first', 'data')  # the store's own directory, wherever it is by now
        os.makedirs(os.path.dirname(self.home))
        os.symlink('first', os.path.join(self.tree, 'at'))
        self.dir = os.path.join(self.tree, 'at', 'data')
        self.probe, self.beside = Probe(self.ack, self.err), Probe(self.file('ack.second'), self.file('err.second'))
        self.before, self.watched, self.expected, self.needed, self.back, self.hard = 0, [], [], [], None, None

    def file(self, name):
        return os.path.join(self.base, name)

    def within(self, *names):
        return os.path.join(self.tree, *names)

    def acks(self, name, *files):
        """The acknowledgements so far, in a file of their own."""
        with open(self.file(name), 'wb') as out:
            for file in files:
                if os.path.exists(file):
                    with open(file, 'rb') as f:
                        out.write(f.read())
        return self.file(name)

    def back_up(self):
        if os.path.isdir(self.home):
            copy(self.home, self.file('older'))
        self.acks('ack.older', self.ack)

    def put(self, what, path, acks, *more):
        """Something new stands there, which nobody must touch."""
        self.watched.append((path, traces(path)))
        self.expected.append((what, path, acks, *more))

    def away(self):
        os.rename(self.home, self.within('away'))
        self.home = self.within('away')

    def remove(self, *names):
        there = [name for name in names if os.path.exists(os.path.join(self.home, name))]
        for name in there:
            os.remove(os.path.join(self.home, name))
        return bool(there)

    def need(self, name, change):
        """Changes a file that the store cannot do without."""
        path = os.path.join(self.home, name)
        if not os.path.isfile(path) or not os.path.getsize(path):
            return False
        change(path)
        self.needed.append('journal-' if name.startswith('journal-') else name)
        return True

    def journal(self):
        names = [name for name in os.listdir(self.home) if name.startswith('journal-')] if os.path.isdir(self.home) else []
        return max(names, default='none')


@kind('renamed away')
def renamed(g, k):
    g.away()
    g.watched.append((g.dir, None))


@kind('renamed and back')
def renamed_and_back(g, k):
    g.away()

    def back():
        g.back = None
        if os.path.lexists(g.dir):  # somebody made it anew
            g.watched.append((g.dir, None))
            os.rename(g.dir, g.within('found'))
            g.watched[-1] = (g.within('found'), None)
        os.rename(g.home, g.dir)
        g.home = g.within('first', 'data')
    g.back, g.back_at = back, k + 1 + k % 7


@kind('replaced by an empty one')
def emptied(g, k):
    g.away()
    os.mkdir(g.dir, 0o700)
    g.put('the empty one', g.dir, g.acks('ack.none'))


@kind('replaced by a copy')
def copied(g, k):
    acks = g.acks('ack.copied', g.ack)
    g.away()
    copy(g.home, g.dir)
    g.put('the copy', g.dir, acks)


@kind('replaced by an older copy')
def older(g, k):
    if not os.path.isdir(g.file('older')):
        return False
    g.away()
    copy(g.file('older'), g.dir)
    g.put('the older copy', g.dir, g.file('ack.older'))


@kind('removed, an older copy put there')
def restored(g, k):
    if not os.path.isdir(g.file('older')):
        return False
    shutil.rmtree(g.home)
    g.home = None
    copy(g.file('older'), g.dir)
    g.put('the older copy', g.dir, g.file('ack.older'))


@kind('another store by a symbolic link')
def switched(g, k):
    if not os.path.exists(os.path.join(g.home, LOCKS[0])):
        return False  # it was not opened yet: the store will be the one that the link leads to by then
    os.mkdir(g.within('second'))
    copy(os.path.join(g.another, 'store'), g.within('second', 'data'))
    os.symlink('second', g.within('at.new'))
    os.rename(g.within('at.new'), g.within('at'))
    g.put('the other store', g.within('second', 'data'), os.path.join(g.another, 'ack'))


@kind('copied by hard links', second='hard')
def hard_linked(g, k):
    g.hard = g.within('hard')
    copy(g.home, g.hard, '-al')


def lock_kinds():
    def another(name):
        def change(g, k):
            path = os.path.join(g.home, name)
            if not os.path.exists(path):
                return False
            copy(path, path + '.copy')
            os.rename(path + '.copy', path)
        return change
    for name in LOCKS:
        kind(f'no {name}', second='dir')(lambda g, k, name=name: g.remove(name))
        kind(f'another {name}', second='dir')(another(name))
    kind('no lock files', second='dir')(lambda g, k: g.remove(*LOCKS))
    kind(f'no {HEAD}', second='dir')(lambda g, k: g.remove(HEAD))


def needed_kinds():
    def cut(path):
        os.truncate(path, os.path.getsize(path) // 2 if os.path.basename(path) == LEDGER else used(path) // 2)

    def used(path):
        with open(path, 'rb') as f:
            return len(f.read().rstrip(b'\0'))

    def some_file(g, k):
        files = sorted(n for n in os.listdir(g.home) if n.endswith('.json') and n != MANIFEST) if os.path.isdir(g.home) else []
        return bool(files) and g.need(files[k % len(files)], os.remove)
    kind('no ledger')(lambda g, k: g.need(LEDGER, os.remove))
    kind('no manifest')(lambda g, k: g.need(MANIFEST, os.remove))
    kind('no journal')(lambda g, k: g.need(g.journal(), os.remove))
    kind('no data file')(some_file)
    kind('ledger cut in half')(lambda g, k: g.need(LEDGER, cut))
    kind('journal cut in half')(lambda g, k: g.need(g.journal(), cut))


lock_kinds()
needed_kinds()


def run(g, a, k, names):
    """One run with the first change of names that has something to change at call k."""
    tr = Tracer(g.tree, MUTATING + ['flock'])
    seen = dict(k=0, at=None, kind=None, second=None, acks=0)
    kill_after = 0 if a.ends == 'close' or (a.ends == 'each' and k % 2) else 1 + k % 5

    def entry(ev, tr):
        if ev.kind == 'ack':
            seen['acks'] += seen['kind'] is not None
            return ('kill',) if kill_after and seen['acks'] == kill_after and seen['second'] is None and not g.back else None
        seen['k'] += 1
        if g.back and seen['k'] >= g.back_at:
            tr.settle(ev.pid)
            g.back()
        if seen['kind'] is None and seen['k'] == max(1, k // 2):
            tr.settle(ev.pid)
            g.back_up()
        if seen['k'] != k:
            return None
        seen['at'] = str(ev)
        if not tr.settle(ev.pid):
            tr.warn.add('a thread did not stand still: what was copied then may be of two moments')
        if not os.path.isdir(g.home):
            return None
        g.before = os.path.getsize(g.ack)
        g.acks('ack.before', g.ack)
        for name in names:
            change, second = KINDS[name]
            if change(g, k) is False:
                continue
            seen['kind'] = name
            if not second or not a.second:
                return None
            there = g.hard if second == 'hard' else g.dir
            seen['second'] = tr.begin('exec ' + fill(a.second, dir=there), g.beside.ack, g.beside.err, traced=False)
            seen['until'] = time.time() + PATIENCE
            return ('hold',)
        return None

    def idle(tr):
        if g.beside.acks() > k % 5 or tr.codes[seen['second']] is not None or time.time() > seen['until']:
            tr.release()
    r = tr.run('exec ' + fill(a.workload, dir=g.dir), g.ack, g.err, entry, timeout=a.timeout, on_idle=idle)
    if g.back:
        g.back()
    return r, seen, tr


def judge(g, a, r, seen, tr):
    """Answers how it went, in a word or two, and what is wrong: (what, of which, said)."""
    wrong, how = [], []
    if r['hung']:
        return ['hung'], [('hang', 'workload', r['stuck'])]
    for who, probe, code in ('', g.probe, r['code']), ('second ', g.beside, tr.codes.get(seen['second'])):
        if seen['second'] is None and who:
            continue
        if r['killed']:
            how.append('killed')
            continue
        said = probe.said()
        how.append(who + {0: 'goes on', REFUSES: 'refuses'}.get(code, 'ends badly'))
        if code == 0 and probe.refusals():
            how[-1] += ' after a refusal'
        if probe.died(code):
            wrong.append((probe.died(code), who + 'workload', said))
        elif code == REFUSES and not any(word in said for word in [g.tree, '.json', 'journal', '.lock', 'process']):
            wrong.append(('says nothing', who + 'workload', said))
    if g.hard:
        shown = 'the directory', g.home, g.ack, '--named'
        expected = [shown, ('its hard links', g.hard, g.acks('ack.hard', g.beside.ack), '--named')]
    else:
        expected = [('the directory', g.home, g.acks('ack.all', g.ack, g.beside.ack))] if g.home else []
    for what, path, acks, *more in expected + g.expected:
        rc, out = g.verify(' '.join([a.verify, *more]), a.timeout, of=path, ack=acks)
        if rc == 0:
            continue
        if what == 'its hard links' and rc == REFUSES and not g.beside.acks():
            how.append('its hard links do not open')
            continue
        if not (g.needed and what == 'the directory' and rc == REFUSES):
            wrong.append((misfit(rc, out), what, out))
            continue
        if not any(name in out for name in g.needed):
            wrong.append(('says nothing', what, out))
        if a.doctor:
            _, told = g.verify(a.doctor, a.timeout, of=path)
            bad = ' '.join(re.findall(r'^ *bad .*', told, re.M))
            if not any(name.split('.')[0].rstrip('-') in bad for name in g.needed):
                wrong.append(('says nothing', 'the doctor', told))
        how.append('does not open and says why')
    if g.home is None:
        with open(g.ack, 'rb') as f:
            after = [line for line in f.read()[g.before:].splitlines() if not line.endswith(b' refused')]
        if len(after) > 1:
            wrong.append(('lost', 'the removed directory', f'{len(after)} acknowledged after it was gone: {after[1]!r} and on'))
    for path, was in g.watched:
        now = traces(path)
        if now != was:
            names = sorted(name for name in {**(was or {}), **(now or {})} if (was or {}).get(name) != (now or {}).get(name))
            wrong.append(('touched', path[len(g.tree):], ', '.join(names) or 'made anew'))
    order = [*COUNTED, 'touched']
    return how, sorted(wrong, key=lambda one: order.index(one[0]) if one[0] in order else len(order))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common_args(ap)
    ap.add_argument('--second', default='', help='shell command of the second process; {dir} = what it opens')
    ap.add_argument('--another', required=True, help='shell command that makes another store in {dir} beforehand')
    ap.add_argument('--doctor', default='', help='shell command that must name a file that is missing or damaged')
    ap.add_argument('--kinds', default='', help='only changes with one of these words in their name, comma list; --list names all')
    ap.add_argument('--changes', type=int, default=1, help='how many changes are tried at each call, in turns; 0 = all')
    ap.add_argument('--ends', choices=['each', 'close', 'kill'], default='each', help='each: by turns closed and killed')
    a = arguments(ap)
    words = [word for word in a.kinds.split(',') if word]
    names = [name for name in KINDS if not words or any(word in name for word in words)]
    if not names:
        raise SystemExit(f'there are: {", ".join(KINDS)}')
    work, t0 = workdir(a), time.time()
    another = os.path.join(work, 'another')
    shutil.rmtree(another, ignore_errors=True)
    os.makedirs(another)
    rc, out = sh(fill(a.another, dir=os.path.join(another, 'store')) + f' >{shlex.quote(another)}/ack', a.timeout, another + '/log')
    if rc:
        raise SystemExit(f'--another failed ({rc}): {out}')
    stats, fails, warn, total, k, tried = collections.Counter(), [], set(), None, a.first, 0
    while not (a.last and k > a.last) and total is None and len(fails) < a.max_fail and not (a.budget and time.time() - t0 > a.budget):
        turn = a.seed + tried * max(1, a.changes)
        tried += 1
        left = [names[(turn + n) % len(names)] for n in range(len(names))]
        for _ in range(a.changes or len(names)):
            g = Ground(work, f'k{k}', another)
            r, seen, tr = run(g, a, k, left)
            warn |= tr.warn
            if seen['kind'] is None:  # nothing is there yet, or the run was over
                g.drop()
                total = r['events'] if seen['at'] is None else total
                if seen['at'] is None and r['code'] != 0:
                    fails.append(dict(point=f'{k}', what='fails without a change', of='workload', out=g.probe.said()[-900:]))
                break
            how, wrong = judge(g, a, r, seen, tr)
            stats[f'{seen["kind"]}: {", ".join(how)}'] += 1
            where = f'{k}:{seen["at"]}'
            if wrong:
                what, of, said = wrong[0]
                fails.append(dict(point=where, kind=seen['kind'], how=', '.join(how), what=what, of=of, out=said[-900:],
                                  also=[f'{what}: {of}' for what, of, _ in wrong[1:]], folder=g.base if a.keep else ''))
            if a.v:
                print(where, seen['kind'], ', '.join(how), *[f'FAIL {what}: {of}' for what, of, _ in wrong] or ['ok'], flush=True)
            if a.keep and wrong:
                os.rename(g.base, f'{g.base}.{len(fails)}')
                fails[-1]['folder'] = f'{g.base}.{len(fails)}'
            else:
                g.drop()
            left = left[left.index(seen['kind']) + 1:]
            if not left:
                break
        k += a.stride
    by_kind = collections.Counter(f'{f.get("kind")}: {f["what"]}' for f in fails)
    return report('directory_enum', stats, fails, warn, t0, a, count=True, extra=dict(
        calls_in_a_full_run=total, points_tried_to=k - a.stride, failures_by_kind=dict(sorted(by_kind.items()))))


if __name__ == '__main__':
    sys.exit(main())

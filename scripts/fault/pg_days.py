#!/usr/bin/env python3
"""Bad days of a PostgreSQL server, under a workload that must lose nothing and do nothing twice.

A cluster of its own is made from the local server programs for each day, `--workload` runs on it again and again, the
day happens, and in the end `--verify` compares what is stored with everything that was acknowledged.

  restart    the server is stopped at once, as by a crash, and started again, --restarts times
  promotion  a primary with a synchronous standby: the primary is stopped at once, the standby promoted, a new standby
             made; the client has both addresses and follows by itself; --promotions times
  pooler     PgBouncer in transaction mode is killed and started again, --restarts / 5 times
  stopped    every process of the server stands still for --still seconds (SIGSTOP), three times
  network    client and server in two network namespaces: the link between them loses everything for 50 to 400 ms, again
             and again, for --seconds; with netem, where the kernel has it, 20 ms of delay and 3 % loss besides. Needs root
  disk-full  the server's disk, a small memory file system, fills up and gets room again, five times. Needs root

The workload must ride it out: an attempt without a certain answer is repeated with its key. {url} is the database,
{seed} a number that differs for each run, {ack} the file of all acknowledgements. It prints a line to stdout for each
acknowledged operation, and as its last line of stderr a JSON object with `calls`, `repeated` and `longest_ms`, the
longest that a single call took; that one may not be above --bound.

Python's standard library only. As root everything of the server runs as the user postgres.
"""
import argparse, json, os, random, shlex, shutil, signal, socket, subprocess, sys, tempfile, threading, time

DAYS = ['restart', 'promotion', 'pooler', 'stopped', 'network', 'disk-full']
ROOT = os.geteuid() == 0
ACCOUNT = 'postgres'


def programs():
    found = []
    for base in ['/usr/lib/postgresql']:
        if os.path.isdir(base):
            found += [f'{base}/{v}/bin' for v in sorted(os.listdir(base), key=float, reverse=True)]
    for place in os.environ.get('PG_BIN', '').split(':') + found + os.environ.get('PATH', '').split(':'):
        if place and os.path.exists(f'{place}/initdb'):
            return place
    sys.exit('no initdb: install the server programs of PostgreSQL, or name their directory in PG_BIN')


def as_account(words):
    return ['setpriv', f'--reuid={ACCOUNT}', f'--regid={ACCOUNT}', '--init-groups', *words] if ROOT else words


def run(words, **more):
    done = subprocess.run(as_account(words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd='/',
                          stdin=subprocess.DEVNULL, **more)
    if done.returncode:
        raise RuntimeError(f'{shlex.join(words)}: exit {done.returncode}\n{done.stdout}')
    return done.stdout


def free_port():
    with socket.create_server(('127.0.0.1', 0)) as s:
        return s.getsockname()[1]


class Cluster:
    """A server of its own. `host` is where clients find it."""

    def __init__(self, bin_, directory, host='127.0.0.1'):
        self.bin, self.dir, self.host, self.port, self.child = bin_, directory, host, free_port(), None

    def own(self, path):
        if ROOT:
            shutil.chown(path, ACCOUNT, ACCOUNT)

    def make(self, more=''):
        os.makedirs(self.dir)
        self.own(self.dir)
        run([f'{self.bin}/initdb', '-D', f'{self.dir}/data', '-U', 'probe', '-A', 'trust', '-E', 'UTF8', '--no-sync',
             '--locale=C', '--wal-segsize=1'])
        self.configure(more)

    def configure(self, more=''):
        path = f'{self.dir}/data/postgresql.conf'
        with open(path, 'w', encoding='utf-8') as out:
            out.write(f"listen_addresses = '127.0.0.1{'' if self.host == '127.0.0.1' else ',' + self.host}'\n"
                      f"port = {self.port}\nunix_socket_directories = '{self.dir}'\nmax_connections = 100\n"
                      f"shared_buffers = 32MB\nmin_wal_size = 4MB\nmax_wal_size = 64MB\nwal_keep_size = 64MB\n"
                      f"log_min_messages = warning\n{more}\n")
        hba = f'{self.dir}/data/pg_hba.conf'
        with open(hba, 'w', encoding='utf-8') as out:
            out.write('local all all trust\nlocal replication all trust\nhost all all all trust\n'
                      'host replication all all trust\n')
        self.own(path)
        self.own(hba)

    def start(self, wait=True):
        log = open(f'{self.dir}/log', 'ab')
        self.child = subprocess.Popen(as_account([f'{self.bin}/postgres', '-D', f'{self.dir}/data']), stdout=log,
                                      stderr=log, stdin=subprocess.DEVNULL, cwd='/', start_new_session=True)
        log.close()
        if wait:
            self.wait()

    def wait(self, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.child.poll() is not None:
                raise RuntimeError(f'the server ended:\n{self.tail()}')
            if subprocess.run([f'{self.bin}/pg_isready', '-q', '-h', '127.0.0.1', '-p', str(self.port)]).returncode == 0:
                return
            time.sleep(0.05)
        raise RuntimeError(f'the server does not answer:\n{self.tail()}')

    def tail(self):
        try:
            with open(f'{self.dir}/log', encoding='utf-8', errors='replace') as log:
                return ''.join(log.readlines()[-15:])
        except OSError:
            return ''

    def stop(self, how=signal.SIGQUIT):
        if self.child and self.child.poll() is None:
            for pid in self.pids():
                try:
                    os.kill(pid, signal.SIGCONT)
                except OSError:
                    pass
            self.child.send_signal(how)
            try:
                self.child.wait(30)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        self.child = None

    def pids(self):
        """The main process, which is first, and its children."""
        main = self.child.pid
        try:
            with open(f'/proc/{main}/task/{main}/children', encoding='ascii') as file:
                return [main] + [int(pid) for pid in file.read().split()]
        except OSError:
            return [main]

    def sql(self, text, database='postgres'):
        return run([f'{self.bin}/psql', '-qAtX', '-h', '127.0.0.1', '-p', str(self.port), '-U', 'probe', '-d', database,
                    '-v', 'ON_ERROR_STOP=1', '-c', text]).strip()

    def url(self, words=''):
        return f'postgresql://probe@{self.host}:{self.port}/probe?sslmode=disable&connect_timeout=2{words}'


class Load:
    """The workload, over and over, until it is told to end."""

    def __init__(self, args, url, acks, prefix=()):
        self.args, self.url, self.acks, self.prefix = args, url, acks, list(prefix)
        self.failures, self.runs, self.calls, self.repeated, self.longest = [], 0, 0, 0, 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.work, daemon=True)

    def __enter__(self):
        self.thread.start()
        # It works when the day begins.
        end = time.monotonic() + 60
        while not os.path.getsize(self.acks) and self.thread.is_alive() and time.monotonic() < end:
            time.sleep(0.05)
        return self

    def __exit__(self, kind, *_):
        self.over.set()
        self.thread.join(300)
        if self.thread.is_alive() and kind is None:
            raise RuntimeError('the workload does not end')

    def work(self):
        while not self.over.is_set() and len(self.failures) < 3:
            self.runs += 1
            words = self.prefix + shlex.split(self.args.workload.format(url=self.url, seed=self.runs))
            with open(self.acks, 'ab') as out:
                done = subprocess.run(words, stdout=out, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
            lines = done.stderr.strip().splitlines()
            try:
                tally = json.loads(lines[-1])
                self.calls += tally['calls']
                self.repeated += tally['repeated']
                self.longest = max(self.longest, tally['longest_ms'])
            except (IndexError, ValueError, KeyError, TypeError):
                tally = None
            if done.returncode or tally is None:
                self.failures.append(f'run {self.runs}: exit {done.returncode}: {done.stderr.strip()[-2000:]}')


class Day:
    def __init__(self, name, args):
        self.name, self.args, self.bin = name, args, programs()
        self.work = tempfile.mkdtemp(prefix=f'pg-day-{name}-', dir=args.work)
        os.chmod(self.work, 0o755)
        self.acks = f'{self.work}/acks'
        open(self.acks, 'w').close()
        self.clusters, self.undo, self.events = [], [], 0

    def cluster(self, name='server', more='', host='127.0.0.1'):
        cluster = Cluster(self.bin, f'{self.work}/{name}', host)
        self.clusters.append(cluster)
        cluster.make(more)
        cluster.start()
        cluster.sql('CREATE DATABASE probe')
        return cluster

    def setup(self, url):
        done = subprocess.run(shlex.split(self.args.setup.format(url=url)), capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f'setup: {done.stdout}{done.stderr}')

    def event(self, what):
        self.events += 1
        if self.args.verbose:
            print(f'  {self.name} {self.events}: {what}', flush=True)

    def happen(self):
        """What happens, while a load runs; answers the load and where to look afterwards."""
        return getattr(self, 'day_' + self.name.replace('-', '_'))()

    def day_restart(self):
        server = self.cluster()
        self.setup(server.url())
        with Load(self.args, server.url(), self.acks) as load:
            for _ in range(self.args.restarts):
                time.sleep(random.uniform(0.3, 1.2))
                server.stop()
                time.sleep(random.choice([0, 0, 0.5]))
                server.start()
                self.event('stopped and started')
        return load, server.url()

    def day_promotion(self):
        sync = "synchronous_standby_names = '*'\nsynchronous_commit = on\n"
        primary = self.cluster('one')
        self.setup(primary.url())
        standby = self.standby(primary, 'two')
        self.enable(primary, sync)
        both = sorted([primary.port, standby.port])
        url = (f'postgresql://probe@127.0.0.1:{both[0]},127.0.0.1:{both[1]}/probe?sslmode=disable&connect_timeout=2'
               '&target_session_attrs=read-write')
        with Load(self.args, url, self.acks) as load:
            for turn in range(self.args.promotions):
                time.sleep(random.uniform(1, 3))
                # What was acknowledged so far is on the standby: the primary waited for that.
                primary.stop()
                run([f'{self.bin}/pg_ctl', 'promote', '-D', f'{standby.dir}/data'])
                standby.wait()
                self.event('promoted')
                shutil.rmtree(primary.dir)
                primary, standby = standby, self.standby(standby, os.path.basename(primary.dir), primary.port)
                self.enable(primary, sync)
        return load, primary.url()

    def enable(self, primary, settings):
        # Only with a standby that listens: a commit without one would wait for ever.
        end = time.monotonic() + 60
        while primary.sql("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") != '1':
            if time.monotonic() > end:
                raise RuntimeError('the standby does not follow')
            time.sleep(0.1)
        primary.configure(settings)
        primary.sql('SELECT pg_reload_conf()')

    def standby(self, primary, name, port=None):
        standby = Cluster(self.bin, f'{self.work}/{name}')
        standby.port = port or standby.port
        os.makedirs(standby.dir)
        standby.own(standby.dir)
        run([f'{self.bin}/pg_basebackup', '-h', '127.0.0.1', '-p', str(primary.port), '-U', 'probe', '-D',
             f'{standby.dir}/data', '-X', 'stream', '-c', 'fast', '--no-sync'])
        standby.configure(f"primary_conninfo = 'host=127.0.0.1 port={primary.port} user=probe'\n")
        signal_file = f'{standby.dir}/data/standby.signal'
        open(signal_file, 'w').close()
        standby.own(signal_file)
        self.clusters.append(standby)
        standby.start()
        return standby

    def day_pooler(self):
        server = self.cluster()
        self.setup(server.url())
        port, directory = free_port(), f'{self.work}/pooler'
        os.makedirs(directory)
        with open(f'{directory}/ini', 'w', encoding='utf-8') as out:
            out.write(f'[databases]\n* = host=127.0.0.1 port={server.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n'
                      f'listen_port = {port}\nunix_socket_dir =\nauth_type = any\nauth_file = {directory}/users\n'
                      'pool_mode = transaction\ndefault_pool_size = 20\nmax_client_conn = 200\n')
        with open(f'{directory}/users', 'w', encoding='utf-8') as out:
            out.write('"probe" ""\n')
        # auth_type any signs everybody in as one user of the server.
        text = open(f'{directory}/ini', encoding='utf-8').read()
        with open(f'{directory}/ini', 'w', encoding='utf-8') as out:
            out.write(text.replace(f'port={server.port}\n', f'port={server.port} user=probe\n'))

        def start():
            pooler = subprocess.Popen(as_account(['pgbouncer', '-q', f'{directory}/ini']), stdin=subprocess.DEVNULL,
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd='/')
            self.undo.append(pooler.kill)
            end = time.monotonic() + 30
            while time.monotonic() < end and pooler.poll() is None:
                try:
                    socket.create_connection(('127.0.0.1', port), 1).close()
                    return pooler
                except OSError:
                    time.sleep(0.05)
            raise RuntimeError('PgBouncer does not answer')

        pooler = start()
        url = f'postgresql://probe@127.0.0.1:{port}/probe?sslmode=disable&connect_timeout=2'
        with Load(self.args, url, self.acks) as load:
            for _ in range(max(1, self.args.restarts // 5)):
                time.sleep(random.uniform(0.5, 1.5))
                pooler.send_signal(random.choice([signal.SIGKILL, signal.SIGTERM]))
                pooler.wait()
                time.sleep(random.choice([0, 0.5]))
                pooler = start()
                self.event('killed and started')
        return load, server.url()

    def day_stopped(self):
        server = self.cluster()
        self.setup(server.url())
        with Load(self.args, server.url(), self.acks) as load:
            for _ in range(3):
                time.sleep(2)
                pids = server.pids()
                for pid in pids:
                    os.kill(pid, signal.SIGSTOP)
                time.sleep(self.args.still)
                for pid in pids:
                    os.kill(pid, signal.SIGCONT)
                self.event(f'stood still for {self.args.still} s')
            time.sleep(2)
        return load, server.url()

    def day_network(self):
        space, here, there = f'pgday{os.getpid()}', f'pga{os.getpid()}', f'pgb{os.getpid()}'
        ip = lambda *words: subprocess.run(['ip', *words], check=True, capture_output=True)
        ip('netns', 'add', space)
        self.undo.append(lambda: ip('netns', 'del', space))
        ip('link', 'add', here, 'type', 'veth', 'peer', 'name', there)
        self.undo.append(lambda: ip('link', 'del', here))
        ip('link', 'set', there, 'netns', space)
        ip('addr', 'add', '10.213.77.1/30', 'dev', here)
        ip('link', 'set', here, 'up')
        inside = lambda *words: ip('netns', 'exec', space, 'ip', *words)
        inside('addr', 'add', '10.213.77.2/30', 'dev', there)
        inside('link', 'set', there, 'up')
        inside('link', 'set', 'lo', 'up')
        netem = subprocess.run(['tc', 'qdisc', 'add', 'dev', here, 'root', 'netem', 'delay', '20ms', '10ms', 'loss',
                                '3%'], capture_output=True).returncode == 0
        print(f'  network: {"20 ms of delay and 3 % loss by netem, and " if netem else "no netem in this kernel; "}'
              'the link goes down for 50 to 400 ms')
        server = self.cluster(host='10.213.77.1')
        self.setup(f'postgresql://probe@127.0.0.1:{server.port}/probe?sslmode=disable')
        with Load(self.args, server.url(), self.acks, ['ip', 'netns', 'exec', space]) as load:
            end = time.monotonic() + self.args.seconds
            while time.monotonic() < end:
                time.sleep(random.uniform(0.1, 1))
                # The client's end keeps its address: packets of both directions are lost.
                ip('link', 'set', here, 'down')
                time.sleep(random.uniform(0.05, 0.4))
                ip('link', 'set', here, 'up')
                self.event('the link was down')
        return load, f'postgresql://probe@127.0.0.1:{server.port}/probe?sslmode=disable'

    def day_disk_full(self):
        disk = f'{self.work}/disk'
        os.makedirs(disk)
        subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=256m,mode=755', 'pg-day', disk], check=True)
        self.undo.append(lambda: subprocess.run(['umount', '-l', disk], check=True))
        server = self.cluster('disk/server')
        self.setup(server.url())
        stuffing = f'{disk}/stuffing'
        with Load(self.args, server.url(), self.acks) as load:
            for _ in range(5):
                time.sleep(random.uniform(1, 2))
                with open(stuffing, 'wb') as out:
                    try:
                        while True:
                            out.write(b'\0' * 65536)
                            out.flush()
                    except OSError:
                        pass
                died = False
                end = time.monotonic() + 6
                while time.monotonic() < end and not died:
                    died = server.child.poll() is not None
                    time.sleep(0.1)
                os.remove(stuffing)
                # A server that cannot write its log ends itself, and recovers when it is started.
                if died:
                    server.start()
                self.event('full, and room again' + (': the server had ended itself' if died else ''))
        return load, server.url()

    def close(self):
        for cluster in self.clusters:
            try:
                cluster.stop()
            except OSError:
                pass
        for undo in reversed(self.undo):
            try:
                undo()
            except (OSError, subprocess.CalledProcessError):
                pass
        shutil.rmtree(self.work, ignore_errors=True)


def judge(day, args):
    """Lets the day happen and looks at what it left; answers figures."""
    begun = time.monotonic()
    problems = []
    load = None
    try:
        load, url = day.happen()
        problems += load.failures
        words = shlex.split(args.verify.format(url=url, ack=day.acks))
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            problems.append(f'verify: {done.stdout}{done.stderr}'[-4000:])
        # The store rides most of it out within one call, which then takes longer.
        if not load.repeated and load.longest < 100:
            problems.append('no call was repeated and none took long: the day did not reach the workload')
        if load.longest > args.bound * 1000:
            problems.append(f'a call took {load.longest / 1000:.1f} s, and {args.bound} s is the bound')
        with open(day.acks, encoding='utf-8') as file:
            acknowledged = sum(1 for _ in file)
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        problems.append(str(error))
        acknowledged = 0
        for cluster in day.clusters:
            problems.append(cluster.tail())
    finally:
        day.close()
    return {'day': day.name, 'events': day.events, 'acknowledged': acknowledged,
            'calls': load.calls if load else 0, 'repeated': load.repeated if load else 0,
            'longest_ms': load.longest if load else 0, 'problems': problems,
            'seconds': round(time.monotonic() - begun)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--workload', required=True)
    parser.add_argument('--setup', required=True, help='makes an empty store in {url}')
    parser.add_argument('--verify', required=True, help='exit 0: nothing lost, nothing doubled')
    parser.add_argument('--days', nargs='+', choices=DAYS, default=DAYS)
    parser.add_argument('--restarts', type=int, default=50)
    parser.add_argument('--promotions', type=int, default=5)
    parser.add_argument('--still', type=float, default=30)
    parser.add_argument('--seconds', type=float, default=60)
    parser.add_argument('--bound', type=float, default=20, help='the longest that one call may take, in seconds')
    parser.add_argument('--work', help='where the clusters are made: the disk that they write to')
    parser.add_argument('--json', help='write the figures here too')
    parser.add_argument('-v', '--verbose', action='store_true')
    args = parser.parse_args()
    results, skipped = [], []
    for name in args.days:
        if name in ('network', 'disk-full') and not ROOT:
            skipped.append(name)
            continue
        print(f'{name} ...', flush=True)
        results.append(judge(Day(name, args), args))
        for problem in results[-1]['problems']:
            print(f'  {problem}', flush=True)
    print(f'\n{"day":12}{"events":>8}{"acknowledged":>14}{"calls":>9}{"repeated":>10}{"longest":>10}{"seconds":>9}  '
          'verdict')
    for r in results:
        verdict = 'FAILED' if r['problems'] else 'lost 0, doubled 0'
        print(f'{r["day"]:12}{r["events"]:8}{r["acknowledged"]:14}{r["calls"]:9}{r["repeated"]:10}'
              f'{r["longest_ms"] / 1000:8.2f} s{r["seconds"]:9}  {verdict}')
    for name in skipped:
        print(f'{name:12}not run: it needs root')
    if args.json:
        with open(args.json, 'w', encoding='utf-8') as out:
            json.dump({'days': results, 'not_run': skipped}, out, indent=1)
    sys.exit(any(r['problems'] for r in results))


if __name__ == '__main__':
    main()

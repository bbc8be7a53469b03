#!/usr/bin/env python3
"""Lists the test programs that cargo built, for side_by_side.py: a line for each, with its name, the folder to run it in and the
program, with tabs between. The name is that of the package and that of the test; for the tests inside a library it is the
package and `unit`, for those inside a program `unit:PROGRAM`.

    cargo test --no-run --message-format json | test_programs.py            all of them, the longest first
    cargo test --no-run --message-format json | test_programs.py NAME       one of them

Exits 1 when there is none. The other way about:

    cargo metadata --no-deps | test_programs.py --left-out

lists tests in a library or a program that Cargo.toml gives no test program (test = false); exits 1 when there is one.
"""
import json
import os
import pathlib
import re
import sys

# Also as another crate's attribute, with arguments, and as a macro.
TEST = re.compile(r'#\[(\w+::)*test\b|\bproptest! *\{')

# So that none of these begins when all others have ended. side_by_side.py prints how long each took.
LONGEST = [
    'storage-pg conformance_pgbouncer',
    'storage-pg conformance_tls',
    'storage-pg conformance',
    'storage-pg unit',
    'storage-json processes',
    'storage-cli transcripts',
    'storage-json conformance',
    'storage-pg bad_days',
    'conformance-mutants unit:conformance-mutants',
    'memory-backend conformance',
    'storage-cli interrupt',
    'storage-cli book',
    'storage-pg adopted',
    'storage-cli import',
    'storage-pg connections',
    'migrations database',
    'storage-cli commands',
    'storage-json unit',
    'pg-test-server servers',
    'storage-core flips',
]


def programs(lines):
    for line in lines:
        said = json.loads(line)
        if said['reason'] != 'compiler-artifact' or not said['profile']['test'] or not said.get('executable'):
            continue
        folder = os.path.dirname(said['manifest_path'])
        # path+file:///folder#name@version, or without the name where the folder has it.
        _, _, name = said['package_id'].rpartition('#')
        package = name.split('@')[0] if '@' in name else os.path.basename(folder)
        target, kind = said['target']['name'], said['target']['kind'][0]
        if kind != 'test':
            target = f'unit:{target}' if kind == 'bin' else 'unit'
        yield f'{package} {target}', folder, said['executable']


def left_out(metadata):
    """The files with tests that no test program is built from."""
    for package in metadata['packages']:
        folder = pathlib.Path(package['manifest_path']).parent / 'src'
        for target in package['targets']:
            if target['test'] or target['kind'][0] not in ('lib', 'bin'):
                continue
            main = pathlib.Path(target['src_path'])
            # A program beside a library is one file.
            files = [main] if main.name == 'main.rs' and (folder / 'lib.rs').exists() else sorted(folder.rglob('*.rs'))
            yield from (file for file in files if TEST.search(file.read_text(encoding='utf-8')))


def main():
    if sys.argv[1:] == ['--left-out']:
        files = list(left_out(json.load(sys.stdin)))
        for file in files:
            print(f'{file}: its tests are not built, Cargo.toml says test = false')
        return 1 if files else 0
    found = list(programs(sys.stdin))
    names = [program[0] for program in found]
    wanted = ' '.join(sys.argv[1:])
    if wanted:
        found = [program for program in found if program[0] == wanted]
    elif gone := [name for name in LONGEST if name not in names]:
        sys.exit(f'{os.path.basename(__file__)} lists what is no test program: {", ".join(gone)}')
    found.sort(key=lambda program: LONGEST.index(program[0]) if program[0] in LONGEST else len(LONGEST))
    for program in found:
        print('\t'.join(program))
    if not found:
        sys.exit(f'no test program {wanted}' if wanted else 'cargo built no test program')
    return 0


if __name__ == '__main__':
    sys.exit(main())

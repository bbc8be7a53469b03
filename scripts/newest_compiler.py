"""Which compiler the crates need that others take in with ours.

usage: cargo metadata --format-version 1 | newest_compiler.py FLOOR PACKAGE ...

Exits 1 and names them when a crate that PACKAGE ... take in (development dependencies aside) says that it needs a newer
compiler than FLOOR.
"""
import json
import sys


def version(text):
    numbers = [int(part) for part in text.split("-")[0].split(".")]
    return tuple(numbers + [0] * (3 - len(numbers)))


def main():
    floor, roots = sys.argv[1], set(sys.argv[2:])
    metadata = json.load(sys.stdin)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    waiting = [key for key, package in packages.items() if package["name"] in roots]
    missing = roots - {packages[key]["name"] for key in waiting}
    if missing:
        sys.exit(f"no such package: {', '.join(sorted(missing))}")
    taken = set()
    while waiting:
        key = waiting.pop()
        if key in taken:
            continue
        taken.add(key)
        for dependency in nodes[key]["deps"]:
            if any(kind["kind"] != "dev" for kind in dependency["dep_kinds"]):
                waiting.append(dependency["pkg"])
    needs = sorted(
        ((package["rust_version"], package["name"], package["version"]) for package in map(packages.get, taken) if package["rust_version"]),
        key=lambda need: version(need[0]),
    )
    newer = [need for need in needs if version(need[0]) > version(floor)]
    for compiler, name, number in newer:
        print(f"{name} {number} needs Rust {compiler}, and Cargo.toml promises {floor}", file=sys.stderr)
    print(f"{len(taken)} crates, of which {len(needs)} say a compiler; the newest is {needs[-1][0]}, promised is {floor}")
    sys.exit(bool(newer))


main()

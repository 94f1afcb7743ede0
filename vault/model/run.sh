#!/bin/sh
# run.sh: spin checks budget.pml. With every guard in place the bound must hold in
# all states; with any one guard taken out spin must find a run that breaks it.
set -eu
cd "$(dirname "$0")"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cp budget.pml "$dir"
cd "$dir"

check() { # check WANT DEFINES...: WANT is ok or broken
	want=$1
	shift
	spin "$@" -a budget.pml >spin.out
	cc -O2 -DSAFETY -DCOLLAPSE -DMEMLIM=8000 -w -o pan pan.c
	./pan -E -m200000 >pan.out || true
	errors=$(sed -n 's/.*errors: \([0-9]*\).*/\1/p' pan.out)
	states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' pan.out | head -n 1)
	if grep -q 'Search not completed\|too small\|reached -DMEMLIM' pan.out && [ "$errors" = 0 ]; then
		echo "model: $*: search not completed" >&2
		exit 1
	fi
	case "$want:$errors" in
	ok:0) echo "model: $*: every guard in place, the bound holds in all $states states" ;;
	broken:0) echo "model: $*: no run breaks the bound, so the guard is not needed or the model does not see it" >&2; exit 1 ;;
	ok:*) echo "model: the bound is broken" >&2; cat pan.out >&2; exit 1 ;;
	broken:*) echo "model: $*: broken, as it must be" ;;
	esac
}

check ok -DNODES=1
check ok -DNODES=3
for guard in NO_LEDGER NO_ANCHOR NO_FIRST NO_REPLAY; do
	check broken -DNODES=1 "-D$guard"
done
check broken -DNODES=3 -DNO_LEDGER
check broken -DNODES=3 -DNO_ANCHOR

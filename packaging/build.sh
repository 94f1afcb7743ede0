#!/bin/bash
# build.sh OUT [NAME...] makes the deb and the rpm of each package (both unless
# named) in OUT. The same commit gives the same bytes: times are the commit's.
# VERSION and TOOLS override the version and the folder of nfpm and cyclonedx-gomod.
set -euo pipefail
cd "$(dirname "$0")/.."
umask 022
export LC_ALL=C TZ=UTC
out=$(realpath -m "$1")
shift
names=("$@")
((${#names[@]})) || names=(coffer coffer-vault)
nfpm=$(realpath "${TOOLS:-.cache/bin}/nfpm") cyclonedx=$(realpath "${TOOLS:-.cache/bin}/cyclonedx-gomod")
epoch=$(git log -1 --format=%ct)
if [[ -z ${VERSION:-} ]]; then # v1.2.3, v1.2.3-4-gabc, else before every release
	VERSION=$(git describe --tags --match 'v[0-9]*' 2>/dev/null) ||
		VERSION=0~git$(date -d "@$epoch" +%Y%m%d%H%M%S).$(git rev-parse --short=12 HEAD)
	VERSION=${VERSION#v}
	VERSION=${VERSION//-/+}
fi
GOARCH=$(go env GOARCH)
export VERSION GOARCH SOURCE_DATE_EPOCH=$epoch
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p "$out"

# program CGO NAME
program() {
	mkdir -p "$root/usr/bin"
	CGO_ENABLED=$1 go build -trimpath -buildvcs=false -ldflags "-s -w -buildid= -X coffer.version=$VERSION" -o "$root/usr/bin/$2" "./cmd/$2"
}

# file FROM TO, readable by all
file() { install -Dm644 "$1" "$root/$2"; }

# text TO, from standard input
text() {
	mkdir -p "$(dirname "$root/$1")"
	cat >"$root/$1"
}

page() { mkdir -p "$root/usr/share/man/man${1##*.}" && gzip -9nc "$1" >"$root/usr/share/man/man${1##*.}/$(basename "$1").gz"; }

client() {
	program 0 coffer
	program 0 cofferd
	for u in systemd/system/coffer{-all.service,@.service,@.socket,.target,.slice,-notify@.service,-notify-all.service,-verify@.service,-verify@.timer}; do file "$u" "usr/lib/systemd/system/${u##*/}"; done
	for u in systemd/user/*; do file "$u" "usr/lib/systemd/user/${u##*/}"; done
	printf 'disable %s\n' coffer-all.service coffer@.service coffer@.socket coffer.target coffer-verify@.timer | text usr/lib/systemd/system-preset/90-coffer.preset
	printf 'disable %s\n' coffer.service coffer-s3.socket | text usr/lib/systemd/user-preset/90-coffer.preset
	for d in sysusers tmpfiles; do grep -v coffer-vault "systemd/$d.d/coffer.conf" | text "usr/lib/$d.d/coffer.conf"; done
	# the command writes these itself
	local made=$stage/made p s
	"$root/usr/bin/coffer" man "$made"
	for p in "$made"/*.1 man/coffer.toml.5 man/cofferd.8; do page "$p"; done
	for s in bash:bash-completion/completions/coffer zsh:zsh/vendor-completions/_coffer fish:fish/vendor_completions.d/coffer.fish; do
		"$root/usr/bin/coffer" completion "${s%%:*}" | text "usr/share/${s#*:}"
	done
	file configs/coffer.toml usr/share/doc/coffer/examples/coffer.toml
	for f in configs/monitoring/coffer{.rules.yml,.dashboard.json}; do file "$f" "usr/share/doc/coffer/monitoring/${f##*/}"; done
	for f in docs/json/*.json; do file "$f" "usr/share/doc/coffer/json/${f##*/}"; done
	services="'coffer@*.service' coffer-all.service" sockets="'coffer@*.socket' 'coffer-verify@*.timer'"
	links="-name 'coffer@*' -o -name 'coffer-verify@*' -o -name coffer-all.service -o -name coffer.target"
}

vault() {
	program 1 coffer-vault
	for u in systemd/system/coffer-vault{@.service,@.socket,.target,-notify@.service}; do file "$u" "usr/lib/systemd/system/${u##*/}"; done
	printf 'disable %s\n' coffer-vault@.service coffer-vault@.socket coffer-vault.target | text usr/lib/systemd/system-preset/90-coffer-vault.preset
	for d in sysusers tmpfiles; do grep coffer-vault "systemd/$d.d/coffer.conf" | text "usr/lib/$d.d/coffer-vault.conf"; done
	for p in man/coffer-vault.toml.5 man/coffer-vault.8; do page "$p"; done
	for f in configs/monitoring/coffer-vault{.rules.yml,.dashboard.json}; do file "$f" "usr/share/doc/coffer-vault/monitoring/${f##*/}"; done
	file configs/coffer-vault.toml usr/share/doc/coffer-vault/examples/coffer-vault.toml
	services="'coffer-vault@*.service'" sockets="'coffer-vault@*.socket'"
	links="-name 'coffer-vault@*' -o -name coffer-vault.target"
}

# papers NAME: licence, changes, documents, and of what each program is made (CycloneDX)
papers() {
	local doc=usr/share/doc/$1
	file LICENSE "$doc/copyright"
	{
		printf '%s (%s) unstable; urgency=medium\n\n' "$1" "$VERSION"
		git log -50 --format='  * %s'
		printf '\n -- The coffer authors <coffer@localhost>  %s\n' "$(date -R -d "@$epoch")"
	} | gzip -9n | text "$doc/changelog.gz"
	for f in docs/*.md; do file "$f" "$doc/${f##*/}"; done
	for f in "$root"/usr/bin/*; do
		"$cyclonedx" bin -json -noserial -notimestamp -std -version "$VERSION" -output "$root/$doc/${f##*/}.cdx.json" "$f" 2>/dev/null
	done
}

for name in "${names[@]}"; do
	work=$stage/$name root=$stage/$name/root
	mkdir -p "$root" "$work/scripts"
	case $name in
	coffer) client ;;
	coffer-vault) vault ;;
	*) echo "build.sh: no package $name" >&2 && exit 2 ;;
	esac
	papers "$name"
	for s in postinst prerm postrm; do
		sed -e "s/@NAME@/$name/g; s/@SERVICES@/$services/; s/@SOCKETS@ */${sockets:+$sockets }/; s/@LINKS@/$links/" "packaging/$s" >"$work/scripts/$s"
	done
	find "$root" -exec touch -h -d "@$epoch" {} +
	for format in deb rpm; do
		(cd "$work" && "$nfpm" package --config "$OLDPWD/packaging/$name.yaml" --packager "$format" --target "$out/")
	done
done

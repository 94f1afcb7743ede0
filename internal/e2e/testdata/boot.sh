#!/bin/bash
# Boots a real systemd as PID 1 of new pid, mount, uts, ipc, net and cgroup
# namespaces, on an overlay of this machine's root whose upper layer is a tmpfs:
# nothing is written to the machine. It ends with its systemd.
#
#	boot.sh NAME DIR COPY
#
# NAME names the cgroup, DIR is an empty folder to mount in, and what is in COPY
# is copied over the root before systemd starts. Needs root, overlayfs and a
# writable cgroup2.
set -euo pipefail
name=$1 dir=$2 copy=$3
mkdir -p "$dir"/{up,root}
cg=/sys/fs/cgroup/unified
[[ $(stat -fc %T /sys/fs/cgroup) = cgroup2fs ]] && cg=/sys/fs/cgroup
mkdir -p "$cg/$name"
cat > "$dir/inner.sh" <<'INNER'
set -euo pipefail
dir=$1 copy=$2 r=$1/root
mount -t tmpfs -o mode=755,size=1g tmpfs "$dir/up"
mkdir "$dir/up/u" "$dir/up/w"
mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/up/u,workdir=$dir/up/w" "$r"
mount -t proc -o nosuid,nodev,noexec proc "$r/proc"
mount --bind "$r/proc/sys" "$r/proc/sys"
mount -o remount,bind,ro "$r/proc/sys"
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$r/sys"
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$r/sys/fs/cgroup"
mount -t tmpfs -o mode=755,nosuid,size=64m tmpfs "$r/dev"
for d in null zero full random urandom tty; do
	touch "$r/dev/$d"
	mount --bind "/dev/$d" "$r/dev/$d"
done
mkdir "$r/dev/pts" "$r/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$r/dev/pts"
ln -s pts/ptmx "$r/dev/ptmx"
ln -s /proc/self/fd "$r/dev/fd"
for i in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${i%%:*}" "$r/dev/${i##*:}"; done
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$r/dev/shm"
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$r/run"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$r/tmp"
mkdir -p "$r/run/systemd/system"
# what makes no sense here, or touches what is shared with the machine
for u in systemd-udevd.service systemd-sysctl.service systemd-modules-load.service systemd-timesyncd.service \
	systemd-networkd.service systemd-resolved.service systemd-hwdb-update.service console-getty.service \
	getty@.service systemd-remount-fs.service systemd-binfmt.service systemd-random-seed.service \
	systemd-firstboot.service systemd-update-utmp.service ldconfig.service sys-kernel-debug.mount \
	sys-kernel-tracing.mount sys-fs-fuse-connections.mount dev-hugepages.mount dev-mqueue.mount; do
	ln -sf /dev/null "$r/run/systemd/system/$u"
done
cp -a --no-preserve=ownership "$copy/." "$r/"
hostname coffer-test
ip link set lo up
cd "$r"
mkdir run/oldroot
pivot_root . run/oldroot
cd /
umount -l /run/oldroot
mount --make-rshared / # systemd skips this in a container, and without it credentials are empty
exec env -i container=coffer-test PATH=/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_LOG_TARGET=journal \
	/lib/systemd/systemd --system --unit=basic.target --log-level=info --show-status=0 </dev/null >/run/systemd-console.log 2>&1
INNER
echo $BASHPID > "$cg/$name/cgroup.procs"
exec unshare --mount --propagation private --pid --fork --kill-child --uts --ipc --net --cgroup \
	bash "$dir/inner.sh" "$dir" "$copy"

#!/bin/bash
# Install the product on a fresh Debian and ask it a question, with the time of each step.
#
#   sudo tests/install/fresh_debian.sh quickstart   what README says: two commands
#   sudo tests/install/fresh_debian.sh offline      the bundle (`make bundle`) without any network
#   sudo tests/install/fresh_debian.sh systemd      docs/install/production.md, booted by systemd
#   sudo tests/install/fresh_debian.sh image        deploy/Dockerfile by buildah, started as a user
#
# Needs root, debootstrap and about 3 GB; `systemd` also systemd-container, `image` also buildah.
#
#   WORK     folder for the installations        a new one under TMPDIR
#   MIRROR   Debian's mirror                     that of debootstrap
#   SUITE    release                             bookworm
#   BUNDLE   tar file for `offline`              the one in build/
#            for `image`: build from it          the working tree
#   CA_FILE  certificates of a proxy or mirror, added to those of the fresh system
#
# PIP_*, UV_* and npm_config_* variables are passed on, except to `image`. Nothing outside WORK
# changes.
set -euo pipefail

kind="${1:-}"
root="$(cd "$(dirname "$0")/../.." && pwd)"
work="${WORK:-$(mktemp -d "${TMPDIR:-/tmp}/fresh-debian-XXXXXX")}"
mirror="${MIRROR:-}"
suite="${SUITE:-bookworm}"
base="$work/base-$suite"
began=$SECONDS

say() { printf '%4d s  %s\n' "$((SECONDS - began))" "$*"; }

debian() { # NAME: a copy of the fresh system, as $system
    if [ ! -e "$base/done" ]; then
        say "debootstrap $suite"
        rm -rf "$base"
        debootstrap --variant=minbase --include=ca-certificates "$suite" "$base" ${mirror:+"$mirror"} \
            >"$work/debootstrap.log" 2>&1 || { tail "$work/debootstrap.log"; exit 1; }
        cp --remove-destination -L /etc/resolv.conf "$base/etc/resolv.conf"
        if [ -n "${CA_FILE:-}" ]; then
            cp "$CA_FILE" "$base/usr/local/share/ca-certificates/extra.pem"
            cat "$CA_FILE" >>"$base/etc/ssl/certs/ca-certificates.crt"
        fi
        touch "$base/done"
    fi
    system="$work/$1"
    rm -rf "$system"
    cp -a --reflink=auto "$base" "$system"
    began=$SECONDS
}

passed() { # the settings of package managers, as NAME=VALUE lines
    env | grep -E '^(PIP_(INDEX_URL|EXTRA_INDEX_URL|TRUSTED_HOST|DEFAULT_TIMEOUT)|UV_[A-Z_]*|npm_config_[a-z_]*)=' || true
    if [ -n "${CA_FILE:-}" ]; then
        certificates=/etc/ssl/certs/ca-certificates.crt
        printf '%s=%s\n' PIP_CERT $certificates SSL_CERT_FILE $certificates \
            NODE_EXTRA_CA_CERTS $certificates
    fi
}

# Run a command in $system in namespaces of its own for processes and mounts, which end with it.
# NETWORK=no gives it a network namespace with nothing but its own loopback.
inside() {
    local variables
    mapfile -t variables < <(passed)
    unshare --mount --pid --fork --kill-child ${NETWORK:+--net} /bin/bash -euc '
        system="$1"; shift
        mount --rbind /dev "$system/dev"; mount -t proc proc "$system/proc"
        mount --rbind /sys "$system/sys"
        if [ -n "${NETWORK:-}" ]; then
            python3 -c "
import fcntl, socket, struct
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any:
    fcntl.ioctl(any, 0x8914, struct.pack(\"16sH\", b\"lo\", 0x41))"
        fi
        exec chroot "$system" /usr/bin/env -i "$@"' - "$system" \
        HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive "${variables[@]}" "$@"
}

clone() { # TARGET: what `git clone` would bring, with the changes of the working tree
    mkdir -p "$1"
    (cd "$root" && git ls-files -z --cached --others --exclude-standard \
        | xargs -0 -I{} sh -c 'test -f "{}" && printf "%s\0" "{}"' \
        | tar --null --files-from=- --create) | tar --extract --directory "$1"
}

# Start the product with a command, create an administrator, ask a question, stop. In $system.
cat_ask() {
    cat <<'PYTHON'
"""Start a command, wait for `Ready`, ask a question by the API, stop it; print the times."""
import json, os, subprocess, sys, time, urllib.request

folder, data, *command = sys.argv[1:]
began = time.monotonic()
process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

def say(text):
    print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)

for line in process.stdout:
    say(line.rstrip())
    if line.startswith("Ready: "):
        url = line.removeprefix("Ready: ").strip()
        break
else:
    sys.exit(f"the command ended with {process.wait()}")

def manage(*arguments):
    return subprocess.run([".venv/bin/python", "manage.py", *arguments], cwd=folder, check=True,
        stdout=subprocess.PIPE, text=True, env={**os.environ, "CHATSITE_DATA_DIR": data,
        "DJANGO_SUPERUSER_PASSWORD": "correct horse battery"}).stdout

manage("createsuperuser", "--noinput", "--username", "ann", "--email", "ann@example.org")
key = manage("apikey", "create", "ann").strip().splitlines()[-1]
body = {"model": "smollm2:135m", "max_tokens": 24, "messages": [{"role": "user", "content": "What is the capital of France?"}]}
request = urllib.request.Request(f"{url}v1/chat/completions", json.dumps(body).encode(),
    {"Authorization": f"Bearer {key}", "Content-Type": "application/json"})
answer = json.load(urllib.request.urlopen(request, timeout=120))
say("Answer: " + answer["choices"][0]["message"]["content"])
process.terminate()
for line in process.stdout:
    pass
say(f"Stopped with {process.wait()}")
PYTHON
}

quickstart() {
    debian quickstart
    say "apt-get install python3-venv make g++"
    inside sh -c 'apt-get update -qq && apt-get install -qq -y --no-install-recommends python3-venv make g++' \
        >"$work/apt.log" 2>&1 || { tail "$work/apt.log"; exit 1; }
    clone "$system/root/chatsite"
    cat_ask >"$system/root/ask.py"
    say "make run"
    inside python3 /root/ask.py /root/chatsite /root/chatsite/var make run
    say "done"
}

offline() {
    bundle="${BUNDLE:-$(ls "$root"/build/chatsite-*-offline-*.tar)}"
    debian offline
    say "apt-get install python3-venv make libgomp1"
    inside sh -c 'apt-get update -qq && apt-get install -qq -y --no-install-recommends python3-venv make libgomp1' \
        >"$work/apt.log" 2>&1 || { tail "$work/apt.log"; exit 1; }
    tar --extract --file "$bundle" --directory "$system/root"
    folder="$(basename "$system"/root/chatsite-*)"
    cat_ask >"$system/root/ask.py"
    say "make run, without network"
    NETWORK=no inside python3 /root/ask.py "/root/$folder" "/root/$folder/var" make run
    say "done"
}

systemd() {
    debian systemd
    say "apt-get install systemd python3-venv make g++"
    inside sh -c 'apt-get update -qq && apt-get install -qq -y --no-install-recommends systemd dbus python3-venv make g++' \
        >"$work/apt.log" 2>&1 || { tail "$work/apt.log"; exit 1; }
    clone "$system/opt/chatsite"
    say "docs/install/production.md: Install"
    inside sh -euc '
        useradd --system --create-home --home-dir /srv/chatsite chatsite
        chown -R chatsite: /opt/chatsite
        setpriv --reuid chatsite --regid chatsite --init-groups \
            env HOME=/srv/chatsite make -C /opt/chatsite setup DATA_DIR=/srv/chatsite/data
        mkdir /etc/chatsite
        cd /opt/chatsite
        install -m 640 -g chatsite deploy/systemd/chatsite.env.example /etc/chatsite/chatsite.env
        install -m 644 deploy/systemd/chatsite.service /etc/systemd/system/
        systemctl enable chatsite'
    cat >"$system/root/check.sh" <<'SH'
#!/bin/sh
# Runs once after boot: the state of the service, an answer, and the way down.
for n in $(seq 120); do systemctl is-active --quiet chatsite && break; sleep 1; done
systemctl status chatsite --no-pager --lines=30
journalctl -u chatsite --no-pager | grep -o "Set-up link: .*\|Ready: .*"
cd /opt/chatsite
run() { setpriv --reuid chatsite --regid chatsite --init-groups env $(grep -v '^#' /etc/chatsite/chatsite.env) HOME=/srv/chatsite "$@"; }
run DJANGO_SUPERUSER_PASSWORD="correct-horse-battery" .venv/bin/python manage.py createsuperuser --noinput --username ann --email ann@example.org
key=$(run .venv/bin/python manage.py apikey create ann | tail -1)
python3 - "$key" <<'PYTHON'
import json, sys, urllib.request
body = {"model": "smollm2:135m", "max_tokens": 24, "messages": [{"role": "user", "content": "Hello"}]}
request = urllib.request.Request("http://127.0.0.1:8000/v1/chat/completions", json.dumps(body).encode(),
    {"Authorization": f"Bearer {sys.argv[1]}", "Content-Type": "application/json", "X-Forwarded-Proto": "https"})
print("Answer:", json.load(urllib.request.urlopen(request, timeout=120))["choices"][0]["message"]["content"])
PYTHON
run .venv/bin/python manage.py doctor
systemctl stop chatsite && systemctl show chatsite -p Result
systemctl poweroff
SH
    cat >"$system/etc/systemd/system/check.service" <<'UNIT'
[Service]
Type=oneshot
ExecStart=/bin/sh /root/check.sh
StandardOutput=journal+console
StandardError=journal+console
[Install]
WantedBy=multi-user.target
UNIT
    ln -s ../check.service "$system/etc/systemd/system/multi-user.target.wants/check.service"
    say "boot"
    systemd-nspawn --quiet --directory "$system" --boot --console=pipe --register=no --keep-unit \
        --private-network --system-call-filter="landlock_create_ruleset landlock_add_rule landlock_restrict_self"
    say "done"
}

image() {
    debian image-base
    # Built from the folder of the fresh system: no image has to be pulled.
    local buildah=(buildah --root "$work/containers" --runroot "$work/run" --storage-driver vfs)
    say "base image"
    tar --create --file "$work/base.tar" --directory "$system" .
    local container
    container="$("${buildah[@]}" from scratch)"
    "${buildah[@]}" add --quiet "$container" "$work/base.tar" / >/dev/null
    "${buildah[@]}" commit --quiet "$container" localhost/debian:fresh >/dev/null
    if [ -n "${BUNDLE:-}" ]; then
        mkdir -p "$work/context"
        tar --extract --file "$BUNDLE" --directory "$work/context" --strip-components=1
    else
        clone "$work/context"
    fi
    local secrets=()
    if [ -n "${CA_FILE:-}" ]; then
        printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n' >"$work/pip.conf"
        printf 'cafile=/etc/ssl/certs/ca-certificates.crt\n' >"$work/npmrc"
        secrets=(--secret "id=pip,src=$work/pip.conf" --secret "id=npm,src=$work/npmrc")
    fi
    say "buildah build"
    "${buildah[@]}" build --format docker --isolation chroot --network host --build-arg BASE=localhost/debian:fresh \
        "${secrets[@]}" --tag localhost/chatsite \
        -f "$work/context/deploy/Dockerfile" "$work/context" \
        >"$work/image.log" 2>&1 || { tail -30 "$work/image.log"; exit 1; }
    say "built; size of the image:"
    "${buildah[@]}" images
    container="$("${buildah[@]}" from localhost/chatsite)"
    system="$("${buildah[@]}" mount "$container")"
    say "start"
    cat_ask >"$system/tmp/ask.py"
    inside setpriv --reuid 10001 --regid 10001 --clear-groups \
        env CHATSITE_DATA_DIR=/data/site PYTHONUNBUFFERED=1 HOME=/data \
        python3 /tmp/ask.py /opt/chatsite /data/site deploy/container/start
    say "done"
}

case "$kind" in
quickstart | offline | systemd | image) "$kind" ;;
*) sed -n '2,19s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac

// The only script of the page. It signs in with the token of a link, keeps an
// open view up to date from the event stream, and asks authenticators. It sets texts and attributes,
// never HTML: what a file is called cannot become part of the page.
"use strict";

function signIn(box) {
  const token = location.hash.slice(1);
  if (!token) return;
  history.replaceState(null, "", "/login"); // not in the history
  const form = box.querySelector("form");
  form.elements.token.value = token;
  form.submit();
}

// at follows "run.text" into an object.
function at(data, path) {
  let value = data;
  for (const name of path.split(".")) value = value == null ? null : value[name];
  return value;
}

// put shows a text, or a moment as <time>.
function put(el, value) {
  if (value && typeof value === "object") {
    const time = el.querySelector("time") || el.appendChild(document.createElement("time"));
    if (time.textContent !== value.text) time.textContent = value.text;
    if (value.iso) time.dateTime = value.iso; else time.removeAttribute("datetime");
    time.title = value.full || "";
    return;
  }
  const text = value == null ? "" : String(value);
  if (el.textContent !== text) el.textContent = text;
}

function show(el, rule, data) {
  el.hidden = rule[0] === "!" ? !!at(data, rule.slice(1)) : !at(data, rule);
}

// fill brings one source or target up to date.
function fill(box, data) {
  for (const el of box.querySelectorAll("[data-field]")) put(el, at(data, el.dataset.field));
  for (const el of box.querySelectorAll("[data-field-tone]")) el.dataset.tone = data.tone;
  for (const el of box.querySelectorAll("[data-field-late]")) el.classList.toggle("tone-bad", !!at(data, el.dataset.fieldLate));
  for (const el of box.querySelectorAll("[data-show]")) show(el, el.dataset.show, data);
  for (const el of box.querySelectorAll("[data-field-progress]")) {
    const run = at(data, el.dataset.fieldProgress);
    if (run && run.max > 0) {
      el.max = run.max;
      el.value = run.value;
    } else {
      el.removeAttribute("value"); // how far is not known
    }
  }
}

function onStatus(data) {
  for (const el of document.querySelectorAll("[data-all]")) put(el, at(data, el.dataset.all));
  for (const el of document.querySelectorAll("[data-all-tone]")) el.dataset.tone = data.tone;
  for (const el of document.querySelectorAll("[data-all-show]")) show(el, el.dataset.allShow, data);
  for (const [kind, list] of [["source", data.sources], ["target", data.targets]]) {
    const boxes = document.querySelectorAll("[data-" + kind + "]");
    const byName = new Map(list.map((one) => [one.name, one]));
    for (const box of boxes) {
      const one = byName.get(box.dataset[kind]);
      if (one) fill(box, one);
    }
    if (kind === "source" && boxes.length !== list.length && document.querySelector("[data-live]:not(#log)")) {
      location.reload(); // a source came or went
    }
  }
}

// onEvent puts a line on top of the activity log.
function onEvent(event) {
  const log = document.getElementById("log");
  if (!log) return;
  const only = log.dataset.sourceFilter;
  if (only && only !== event.source) return;
  if ("trouble" in log.dataset && event.tone !== "warn" && event.tone !== "bad") return;
  const line = document.createElement("li");
  line.dataset.tone = event.tone;
  const dot = document.createElement("span");
  dot.className = "dot";
  dot.ariaHidden = "true";
  const time = document.createElement("time");
  time.textContent = event.time.text;
  time.dateTime = event.time.iso;
  time.title = event.time.full;
  const text = document.createElement("span");
  text.className = "event";
  if (event.source) {
    const name = document.createElement("b");
    name.textContent = event.source;
    text.append(name, " ");
  }
  text.append(event.text);
  line.append(dot, time, text);
  log.prepend(line);
  while (log.children.length > 300) log.lastElementChild.remove();
  const none = document.getElementById("no-log");
  if (none) none.remove();
}

// live listens while the view is looked at: a browser gives a site six
// connections, and hidden views must not hold them.
function live() {
  const lost = document.getElementById("lost");
  let stream = null;
  let again = 0;
  const open = () => {
    if (stream || document.hidden) return;
    stream = new EventSource("/events");
    stream.addEventListener("open", () => {
      lost.hidden = true;
    });
    stream.addEventListener("status", (e) => onStatus(JSON.parse(e.data)));
    stream.addEventListener("event", (e) => onEvent(JSON.parse(e.data)));
    stream.addEventListener("error", () => {
      lost.hidden = false;
      if (stream.readyState !== EventSource.CLOSED) return; // it tries again by itself
      close();
      clearTimeout(again);
      again = setTimeout(open, 5000);
    });
  };
  const close = () => {
    if (stream) stream.close();
    stream = null;
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);
  open();
}

const encode = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const decode = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
const random = (n) => crypto.getRandomValues(new Uint8Array(n));
const passkeyHost = "coffer.localhost"; // the only name they work for: no other program has it

// passkeys are those of the page.
function passkeys() {
  return [...document.querySelectorAll("[data-credential]")].map((el) => ({
    id: el.dataset.id, name: el.dataset.credential, credential: decode(el.dataset.credential), salt: decode(el.dataset.salt),
  }));
}

// answer has a passkey compute its secret. What it signs besides is not needed:
// the secret itself is the proof.
async function answer(list) {
  const evalByCredential = {};
  for (const one of list) evalByCredential[one.name] = { first: one.salt };
  const got = await navigator.credentials.get({ publicKey: {
    challenge: random(32), rpId: passkeyHost, userVerification: "required", timeout: 120000,
    allowCredentials: list.map((one) => ({ type: "public-key", id: one.credential })), extensions: { prf: { evalByCredential } },
  } });
  const used = list.find((one) => one.name === encode(got.rawId));
  const prf = got.getClientExtensionResults().prf;
  if (!used || !prf || !prf.results || !prf.results.first) throw new Error("This authenticator gave no secret: it cannot open a backup.");
  return { id: used.id, secret: encode(prf.results.first) };
}

async function addPasskey(form) {
  const name = form.elements.name.value;
  const salt = decode(form.dataset.newSalt);
  const made = await navigator.credentials.create({ publicKey: {
    challenge: random(32), rp: { id: passkeyHost, name: "coffer" }, user: { id: random(16), name, displayName: name },
    pubKeyCredParams: [{ type: "public-key", alg: -7 }, { type: "public-key", alg: -257 }], timeout: 120000,
    excludeCredentials: passkeys().map((one) => ({ type: "public-key", id: one.credential })),
    authenticatorSelection: { residentKey: "preferred", userVerification: "required" }, extensions: { prf: { eval: { first: salt } } },
  } });
  const prf = made.getClientExtensionResults().prf;
  if (!prf || !prf.enabled) throw new Error("This authenticator cannot keep a secret (it lacks PRF, also called hmac-secret). Remove the passkey from it, and use another one.");
  const credential = encode(made.rawId);
  const secret = prf.results && prf.results.first ? encode(prf.results.first)
    : (await answer([{ id: "", name: credential, credential: made.rawId, salt }])).secret; // some tell it only when asked again
  await send("/passkeys", { name, credential, salt: form.dataset.newSalt, secret });
}

async function unlock() {
  await send("/unlock", await answer(passkeys()));
}

async function send(path, fields) {
  const reply = await fetch(path, { method: "POST", body: new URLSearchParams(fields), redirect: "error" });
  if (!reply.ok) throw new Error(await reply.text());
  location.assign("/protection");
}

const passkeyErrors = {
  NotAllowedError: "No passkey was used: it was cancelled, took too long, or the authenticator does not know this backup.",
  InvalidStateError: "This authenticator has a passkey of this backup already.",
  SecurityError: "Passkeys work on this page only by the name coffer.localhost.",
};

// withPasskey runs what a form is for, and says what went wrong.
function withPasskey(form) {
  const problem = document.getElementById("passkey-problem");
  const button = form.querySelector("button");
  form.addEventListener("submit", async (e) => {
    e.preventDefault();
    problem.hidden = button.disabled = true;
    try {
      if (!window.PublicKeyCredential) throw new Error("This browser has no passkeys, or not on this page.");
      await (form.dataset.passkey === "add" ? addPasskey(form) : unlock());
    } catch (err) {
      put(problem.querySelector("span"), passkeyErrors[err.name] || err.message);
      problem.hidden = false;
      problem.focus();
    }
    button.disabled = false;
  });
}

// follow shows how far a restore is, and its view again when it has ended.
async function follow(box) {
  for (;;) {
    await new Promise((done) => setTimeout(done, 500));
    if (document.hidden) continue;
    const reply = await fetch(box.dataset.restore, { redirect: "error" }).catch(() => null);
    document.getElementById("lost").hidden = !!reply;
    if (!reply) continue;
    if (!reply.ok) return location.reload();
    const state = await reply.json();
    if (state.done) return location.reload();
    fill(box, state);
  }
}

for (const box of document.querySelectorAll("[data-restore]")) follow(box);
for (const form of document.querySelectorAll("[data-passkey]")) withPasskey(form);
const box = document.querySelector("[data-login]");
if (box) {
  signIn(box);
  addEventListener("hashchange", () => signIn(box)); // a new link in a page that is open
}
if (document.querySelector("[data-live]")) live();

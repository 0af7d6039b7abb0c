// Runs Azurite's Blob and Queue servers in one process: Azurite's own start script always brings the Table server and
// loads drivers for SQL servers too, which costs time and memory.
//
//   node run.js AZURITE_PACKAGE_FOLDER DATA_FOLDER     with one JSON object on standard input:
//   {"listening": file, "accounts": "name:base64key", "blobPort": n, "queuePort": n}
//
// The settings come on standard input because they hold a key: nothing of it shows in the process list.
// Once both servers answer, `listening` is written: {"pid", "blobPort", "queuePort"}. SIGTERM saves everything, removes
// that file and ends: a file whose process is gone tells of an unclean end.
"use strict";

const fs = require("fs");
const path = require("path");

const HOST = "127.0.0.1";
// Seconds. Azurite's 5 s closes a connection just when a client that thought for a moment uses it again.
const KEEP_ALIVE = 65;
// Milliseconds. Saving takes a moment; a transfer that is still going on is not waited for longer than this.
const GRACE = 8000;

const [packageFolder, location] = process.argv.slice(2);
const settings = JSON.parse(fs.readFileSync(0, "utf8"));
process.env.AZURITE_ACCOUNTS = settings.accounts;
// Azurite's modules parse the command line when they are loaded; ours is not meant for them.
process.argv.splice(2);

const load = (name) => require(path.join(packageFolder, "dist/src", name));
const silent = [false, undefined, false, undefined]; // no access log, no debug log
const refused = [false, true, "", "", "", undefined, false, false]; // strict; any api-version; no TLS, no OAuth

function files(constants, kind) {
  const folder = constants[`DEFAULT_${kind}_PERSISTENCE_ARRAY`];
  folder[0].locationPath = path.join(location, constants[`DEFAULT_${kind}_PERSISTENCE_PATH`]);
  return [
    path.join(location, constants[`DEFAULT_${kind}_LOKI_DB_PATH`]),
    path.join(location, constants[`DEFAULT_${kind}_EXTENT_LOKI_DB_PATH`]),
    folder,
  ];
}

function server(name, kind, port) {
  const folder = name.toLowerCase();
  const Configuration = load(`${folder}/${name}Configuration`).default;
  const Server = load(`${folder}/${name}Server`).default;
  const where = files(load(`${folder}/utils/constants`), kind);
  return new Server(new Configuration(HOST, port, KEEP_ALIVE, ...where, ...silent, ...refused));
}

function say(text) {
  console.log(`${new Date().toISOString()} ${text}`);
}

function writeListening(servers) {
  const [blobPort, queuePort] = servers.map((each) => Number(each.getHttpServerAddress().split(":").pop()));
  const beside = `${settings.listening}.${process.pid}`;
  fs.writeFileSync(beside, JSON.stringify({ pid: process.pid, blobPort, queuePort }), { mode: 0o600 });
  fs.renameSync(beside, settings.listening);
  say(`Azurite answers: Blob on port ${blobPort}, Queue on port ${queuePort}`);
}

async function main() {
  const servers = [server("Blob", "BLOB", settings.blobPort), server("Queue", "QUEUE", settings.queuePort)];
  load("common/Logger").configLogger(false);
  load("common/Telemetry").AzuriteTelemetryClient.init(location, false);
  let stopping = false;
  const stop = async () => {
    if (stopping) return;
    stopping = true;
    setTimeout(() => process.exit(1), GRACE).unref();
    await Promise.all(servers.map((each) => each.close()));
    fs.rmSync(settings.listening, { force: true });
    say("Azurite has saved everything and ends");
    process.exit(0);
  };
  for (const each of servers) await each.start();
  process.on("SIGTERM", stop).on("SIGINT", stop);
  writeListening(servers);
}

main().catch((error) => {
  say(`Azurite cannot start: ${error.message}`);
  process.exit(error.code === "EADDRINUSE" ? 3 : 1);
});

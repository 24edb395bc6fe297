// A program in another language on the bus: it says three things as events, one of them wrongly,
// and tells of the first thing that happens to a download. `node outsider.mjs nats://host:port`
import { randomUUID } from "node:crypto";
import { connect } from "@nats-io/transport-node";
import { jetstream } from "@nats-io/jetstream";

const nc = await connect({ servers: process.argv[2], name: "outsider" });
const js = jetstream(nc);

const event = (type, attributes) => ({
  specversion: "1.0",
  id: randomUUID(),
  source: "outsider",
  type,
  time: new Date().toISOString(),
  actortype: "user",
  actorid: "42",
  ...attributes,
});

const said = {
  valid: event("media_file.imported", {
    subject: "media_file/Dune (2021).mkv",
    data: { path: "/movies/Dune (2021).mkv", size: 4_000_000_000, mood: "🎬" },
  }),
  invalid: event("media_file.imported", { data: { size: "4 GB", mood: "🎬" } }),
  unregistered: event("playback.started", {
    subject: "player/living room",
    category: "playback",
    severity: "warning",
    correlationid: "evening",
    data: { position: 0.5 },
  }),
};

const print = (line) => console.log(JSON.stringify(line));

const downloads = nc.subscribe("events.downloads.>", { max: 1 });
await nc.flush();

for (const [name, what] of Object.entries(said)) {
  const [resource, action] = what.type.split(".");
  const subject = `events.${what.category ?? "media"}.${resource}.${action}.-`;
  const body = JSON.stringify(what);
  const { seq } = await js.publish(subject, body, { msgID: what.id });
  print({ said: name, id: what.id, time: what.time, seq, subject, body });
}
for await (const message of downloads) {
  print({ heard: message.subject, event: message.json() });
}
await nc.close();

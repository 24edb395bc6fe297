// Verifies a webhook as a receiver in Node does: arguments are the secret and the headers; the body is on stdin.
import { readFileSync } from "node:fs";
import { Webhook } from "standardwebhooks";

const [secret, headers] = process.argv.slice(2);
const event = new Webhook(secret).verify(readFileSync(0, "utf8"), JSON.parse(headers));
console.log(event.type);

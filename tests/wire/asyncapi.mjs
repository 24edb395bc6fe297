// Reads an AsyncAPI document and prints what AsyncAPI's own parser says of it, as JSON.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const { document, diagnostics } = await new Parser().parse(readFileSync(0, "utf8"));
const faults = diagnostics.filter((one) => one.severity < 2); // errors and warnings
console.log(
  JSON.stringify({
    version: document?.version() ?? null,
    servers: document?.servers().all().map((one) => one.id()) ?? [],
    operations: document?.operations().all().length ?? 0,
    faults: faults.map((one) => `${one.path.join(".")}: ${one.message}`),
  }),
);

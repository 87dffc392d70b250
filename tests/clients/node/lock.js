// Takes the addresses out of the lock file: what is left are versions and hashes.
import {readFileSync, writeFileSync} from "node:fs";

const lock = JSON.parse(readFileSync("package-lock.json", "utf8"));
for (const module of Object.values(lock.packages)) {
  delete module.funding;
  delete module.resolved;
}
writeFileSync("package-lock.json", `${JSON.stringify(lock, null, 2)}\n`);

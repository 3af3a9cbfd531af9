// node wasi.mjs FOLDER PROGRAM ARGUMENT…: runs a WebAssembly program that may read and write FOLDER,
// which it sees as its root.
import { readFile } from "node:fs/promises";
import { WASI } from "node:wasi";

const [folder, program, ...args] = process.argv.slice(2);
const wasi = new WASI({ version: "preview1", args: [program, ...args], preopens: { "/": folder } });
const module = await WebAssembly.compile(await readFile(program));
const instance = await WebAssembly.instantiate(module, wasi.getImportObject());
process.exitCode = wasi.start(instance);

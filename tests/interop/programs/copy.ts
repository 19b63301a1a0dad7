// AssemblyScript with its WASI shim: prints its arguments and environment, and copies the file named first.
import { errno, fd_read, fd_write, lookupflags, oflags, path_open, rights } from "bindings/wasi_snapshot_preview1";

console.log("args " + process.argv.slice(1).join(" "));
console.log("NAME " + (process.env.has("NAME") ? process.env.get("NAME") : "none"));
const path = String.UTF8.encode(process.argv[1]);
const out = memory.data(8);
const iov = memory.data(8);
const buffer = new ArrayBuffer(4096);
let e = path_open(3, lookupflags.SYMLINK_FOLLOW, changetype<usize>(path), path.byteLength, 0, rights.FD_READ, 0, 0, out);
if (e == errno.SUCCESS) {
  const fd = load<u32>(out);
  store<u32>(iov, changetype<u32>(buffer));
  while (true) {
    store<u32>(iov, buffer.byteLength, 4);
    e = fd_read(fd, iov, 1, out);
    if (e != errno.SUCCESS || load<u32>(out) == 0) break;
    store<u32>(iov, load<u32>(out), 4);
    fd_write(1, iov, 1, out);
  }
}
console.log("errno " + e.toString());
console.log((Date.now() > 1700000000000).toString());
process.exit(7);

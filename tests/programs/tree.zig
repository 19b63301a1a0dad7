//! tree PATH...: Zig's standard library on files: copies each file to the output, and works in the directory it is in.
//! Prints "ok" at the end; anything unexpected ends it with an error and a status that is not 0.

const std = @import("std");

fn expect(holds: bool) !void {
    if (!holds) return error.Unexpected;
}

fn files(io: std.Io, gpa: std.mem.Allocator) !void {
    const here = std.Io.Dir.cwd();
    try here.createDirPath(io, "made/deep");
    var deep = try here.openDir(io, "made/deep", .{ .iterate = true });
    defer deep.close(io);
    try deep.writeFile(io, .{ .sub_path = "one", .data = "first\nsecond\n" });
    var file = try deep.createFile(io, "two", .{ .read = true, .exclusive = true });
    try file.writePositionalAll(io, "tail", 6);
    try file.setLength(io, 8);
    try file.sync(io);
    const stat = try file.stat(io);
    try expect(stat.size == 8 and stat.kind == .file);
    file.close(io);
    if (deep.createFile(io, "two", .{ .exclusive = true })) |again| {
        again.close(io);
        return error.Unexpected;
    } else |refused| try expect(refused == error.PathAlreadyExists);
    const two = try deep.readFileAlloc(io, "two", gpa, .limited(100));
    try expect(std.mem.eql(u8, two, "\x00\x00\x00\x00\x00\x00ta"));
    try deep.symLink(io, "one", "link", .{});
    // It never follows a link in the last place on WASI.
    if (deep.openFile(io, "link", .{})) |_| return error.Unexpected else |refused| try expect(refused == error.SymLinkLoop);
    var names: usize = 0;
    var entries = deep.iterate();
    while (try entries.next(io)) |entry| {
        const kind: std.Io.File.Kind = if (std.mem.eql(u8, entry.name, "link")) .sym_link else .file;
        try expect(entry.kind == kind);
        names += 1;
    }
    try expect(names == 3);
    try deep.rename("two", here, "three", io);
    try expect((try here.statFile(io, "three", .{})).size == 8);
    if (here.deleteDir(io, "made")) return error.Unexpected else |refused| try expect(refused == error.DirNotEmpty);
    try here.deleteTree(io, "made");
    if (here.statFile(io, "made", .{})) |_| return error.Unexpected else |refused| try expect(refused == error.FileNotFound);
}

pub fn main(init: std.process.Init) !void {
    const io = init.io;
    const gpa = init.arena.allocator();
    var buffer: [256]u8 = undefined;
    var out = std.Io.File.stdout().writer(io, &buffer);
    for ((try init.minimal.args.toSlice(gpa))[1..]) |path| {
        const text = try std.Io.Dir.cwd().readFileAlloc(io, path, gpa, .unlimited);
        try out.interface.writeAll(text);
    }
    try files(io, gpa);
    try out.interface.writeAll("ok\n");
    try out.interface.flush();
}

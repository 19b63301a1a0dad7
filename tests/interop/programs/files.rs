// files FILE...: copies each file to the output, then works in the working directory. Prints what it finds.
use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

fn main() -> std::io::Result<()> {
    for name in std::env::args().skip(1) {
        match fs::read_to_string(&name) {
            Ok(text) => print!("{}", text),
            Err(error) => println!("{}: {:?}", name, error.kind()),
        }
    }
    fs::create_dir_all("made/deep")?;
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open("made/deep/a")?;
    file.write_all(b"0123456789")?;
    file.seek(SeekFrom::End(-4))?;
    let mut tail = String::new();
    file.read_to_string(&mut tail)?;
    file.set_len(5)?;
    file.sync_all()?;
    println!("{} {}", tail, file.metadata()?.len());
    drop(file);
    let again = OpenOptions::new().write(true).create_new(true).open("made/deep/a").unwrap_err();
    println!("{:?}", again.kind());
    fs::copy("made/deep/a", "made/b")?;
    fs::hard_link("made/b", "made/c")?;
    fs::rename("made/b", "made/deep/a")?;
    let mut names: Vec<_> = fs::read_dir("made")?.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    println!("{:?}", names);
    println!("{:?}", fs::remove_dir("made").is_err());
    fs::remove_dir_all("made")?;
    let before = Instant::now();
    std::thread::sleep(Duration::from_millis(2));
    println!("{}", before.elapsed() >= Duration::from_millis(2));
    println!("{}", SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() > 1_700_000_000);
    std::process::exit(4);
}

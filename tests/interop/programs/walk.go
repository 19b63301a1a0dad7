// walk FILE...: counts the lines of each file, works in the working directory, and lists it. Prints what it finds.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func check(err error) {
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
}

func main() {
	wd, err := os.Getwd()
	check(err)
	fmt.Println(filepath.Base(wd))
	for _, name := range os.Args[1:] {
		file, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			fmt.Println(name, "is not there")
			continue
		}
		check(err)
		lines := 0
		for scanner := bufio.NewScanner(file); scanner.Scan(); {
			lines++
		}
		check(file.Close())
		fmt.Println(name, lines)
	}
	check(os.MkdirAll("made/deep", 0o755))
	check(os.WriteFile("made/deep/a", []byte(strings.Repeat("x", 100000)), 0o644))
	check(os.Truncate("made/deep/a", 70000))
	check(os.Chtimes("made/deep/a", time.Unix(1000, 0), time.Unix(2000, 5)))
	check(os.Symlink("a", "made/deep/link"))
	check(os.Rename("made/deep/a", "made/b"))
	check(filepath.WalkDir("made", func(path string, entry fs.DirEntry, err error) error {
		check(err)
		info, err := entry.Info()
		check(err)
		fmt.Println(path, entry.IsDir(), info.Mode().Type() == fs.ModeSymlink)
		return nil
	}))
	info, err := os.Stat("made/b")
	check(err)
	fmt.Println(info.Size(), info.ModTime().UnixNano())
	appended, err := os.OpenFile("made/b", os.O_APPEND|os.O_RDWR, 0)
	check(err)
	_, err = appended.WriteString("end")
	check(err)
	tail := make([]byte, 4)
	_, err = appended.ReadAt(tail, 69999)
	check(err)
	fmt.Println(string(tail))
	check(appended.Close())
	done := make(chan bool)
	go func() { time.Sleep(time.Millisecond); done <- true }()
	<-done
	check(os.RemoveAll("made"))
	os.Exit(3)
}

module github.com/imgbuild/imgbuild/assets/components/pause

go 1.26.0

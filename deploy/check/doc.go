// Package check is the tests of the deployment files: Dockerfile, docker-compose.yml, and what they use of deploy/. They read the
// files as Docker does, with its own libraries, and need no Docker. That the broker takes the commands in them is tested in
// cmd/dunlin.
package check

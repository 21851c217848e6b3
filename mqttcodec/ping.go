package mqttcodec

// Pingreq is a sign of life. (3.12)
type Pingreq struct{}

// Pingresp answers Pingreq. (3.13)
type Pingresp struct{}

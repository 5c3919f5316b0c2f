ALTER TABLE holds VALIDATE CONSTRAINT holds_captured_not_negative;

ALTER TABLE holds VALIDATE CONSTRAINT holds_captured_by_when_captured;

<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE TS>
<TS version="2.1" sourcelanguage="en" language="de"><context><name>M</name>
<message><source>Open<byte value="x1F"/></source><translation>Öffnen</translation></message>
<message numerus="yes"><source>%n files</source><translation type="unfinished"><numerusform>%n Datei</numerusform><numerusform>%n Dateien</numerusform></translation></message>
</context></TS>
